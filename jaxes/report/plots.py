"""Plots of a sweep, as PNG files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxes.report.tables import Ranked, Sweep
from jaxes.statistics import with_interval
from jaxes.training.metrics import Row
from jaxes.training.run import score_of

MOST_CURVES = 12  # of a plot; more could not be told apart
MOST_INCHES, MOST_TICKS = 12, 15  # of an axis


def draw(sweep: Sweep, ranked: list[Ranked], directory: Path) -> list[Path]:
    """Draws what the number of swept fields allows: curves always, a heat map for two fields,
    parallel coordinates for more. Returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = {"returns": curves(sweep, ranked)}
    if len(sweep.fields) == 2:
        figures["heat_map"] = heat_map(sweep.fields, ranked)
    elif len(sweep.fields) > 2:
        figures["parallel_coordinates"] = parallel_coordinates(sweep.fields, ranked)
    paths = []
    for name, figure in figures.items():
        paths.append(path := directory / f"{name}.png")
        figure.savefig(path, dpi=150, bbox_inches="tight")
    return paths


def curves(sweep: Sweep, ranked: list[Ranked]) -> Figure:
    """Return of the mean policy against environment steps: interquartile mean over seeds, and its
    95 % confidence interval as a band, for each of the best configurations."""
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    order = [row.values for row in ranked][:MOST_CURVES]
    for values, rows in sweep.configurations():
        if values not in order:
            continue
        runs = [_tests(sweep, row) for row in rows]
        length = min(len(steps) for steps, _ in runs)
        if length == 0:
            continue
        steps = np.mean([steps[:length] for steps, _ in runs], axis=0)
        returns = np.array([returns[:length] for _, returns in runs])
        bands = np.array([with_interval(column) for column in returns.T])
        label = ", ".join(f"{_short(name)}={_text(value)}" for name, value in values.items())
        (line,) = axes.plot(steps, bands[:, 0], label=label or "return")
        axes.fill_between(steps, bands[:, 1], bands[:, 2], color=line.get_color(), alpha=0.2)
    hidden = len(sweep.configurations()) - len(order)
    if hidden:
        axes.set_title(f"the best {len(order)}; {hidden} more are not shown")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return of the mean policy")
    if axes.get_legend_handles_labels()[0]:  # not where all diverged
        axes.legend(fontsize="small")
    return figure


def of_run(rows: list[Row], directory: Path) -> Path:
    """Draws the returns of a run alone: the population's or the trial's, and those of tests."""
    directory.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for name, style in [("return/mean", "-"), ("test/return_mean", "o-")]:
        points = [
            (row["generation"], row[name])
            for row in rows
            if isinstance(row.get(name), float | int) and math.isfinite(row[name])
        ]
        if points:
            axes.plot(*zip(*points, strict=True), style, markersize=4, label=name)
    axes.set_xlabel("trial" if rows and "plan/best" in rows[0] else "generation")
    axes.set_ylabel("return")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    figure.savefig(path := directory / "returns.png", dpi=150, bbox_inches="tight")
    return path


def heat_map(fields: list[str], ranked: list[Ranked]) -> Figure:
    """Interquartile mean of the final return over both swept fields."""
    across, down = fields
    columns = _sorted({_text(row.values[across]): row.values[across] for row in ranked})
    lines = _sorted({_text(row.values[down]): row.values[down] for row in ranked})
    grid = np.full((len(lines), len(columns)), np.nan)
    for row in ranked:
        at = lines.index(_text(row.values[down])), columns.index(_text(row.values[across]))
        grid[at] = row.iqm
    size = min(1.2 + 0.8 * len(columns), MOST_INCHES), min(1.2 + 0.6 * len(lines), MOST_INCHES)
    figure = Figure(figsize=size)
    axes = figure.subplots()
    image = axes.imshow(grid, origin="lower", aspect="auto")
    across_every, down_every = (-(-len(names) // MOST_TICKS) for names in (columns, lines))
    axes.set_xticks(range(0, len(columns), across_every), columns[::across_every])
    axes.set_yticks(range(0, len(lines), down_every), lines[::down_every])
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    figure.colorbar(image, label="return (interquartile mean)")
    return figure


def parallel_coordinates(fields: list[str], ranked: list[Ranked]) -> Figure:
    """A line a configuration through its values, colored by its return."""
    ranked = [row for row in ranked if np.isfinite(row.iqm)]
    figure = Figure(figsize=(1.5 + 1.5 * len(fields), 4.5))
    axes = figure.subplots()
    colors = Normalize(
        min((row.iqm for row in ranked), default=0), max((row.iqm for row in ranked), default=1)
    )
    ticks = [
        _sorted({_text(row.values[field]): row.values[field] for row in ranked}) for field in fields
    ]
    for row in reversed(ranked):
        heights = [
            ticks[i].index(_text(row.values[field])) / max(len(ticks[i]) - 1, 1)
            for i, field in enumerate(fields)
        ]
        axes.plot(range(len(fields)), heights, color=colormaps["viridis"](colors(row.iqm)))
    for i, names in enumerate(ticks):
        shown = names if len(names) <= 12 else [names[0], names[-1]]
        for name in shown:
            axes.text(i, names.index(name) / max(len(names) - 1, 1), f" {name}", fontsize="small")
    axes.set_xticks(range(len(fields)), [_short(field) for field in fields])
    axes.set_yticks([])
    figure.colorbar(ScalarMappable(colors, "viridis"), ax=axes, label="return (interquartile mean)")
    return figure


def _tests(sweep: Sweep, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps and returns [tests] of a trial's tests in which no episode diverged."""
    steps, points = 0, []
    for generation in sweep.metrics(row):
        steps += generation.get("rollout/env_steps", 0)
        if "test/return_mean" in generation and score_of(generation) > -math.inf:
            points.append((steps or generation["generation"], generation["test/return_mean"]))
    return tuple(np.array(points, float).reshape(-1, 2).T)  # type: ignore[return-value]


def _short(field: str) -> str:
    return field.rpartition(".")[2]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sorted(values: dict[str, Any]) -> list[str]:
    """Texts in the order of their values: numbers by size."""
    numbers = all(isinstance(value, int | float) for value in values.values())
    return sorted(values, key=values.__getitem__ if numbers else str)
