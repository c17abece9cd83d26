"""The pictures of a page, as SVG: learning curves with bands, and what a sweep says of its fields.

A picture holds its curves alone; their names stand below it as text, which wraps at any width.
"""

import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxes.report.curves import Curve, curve_of, unit_of
from jaxes.report.runs import Sweep, metrics
from jaxes.report.tables import Ranked, label, number, short_names, shown_name, text
from jaxes.terminal import format_number
from jaxes.training.tested import group_of, told_in

# Told apart by those who see few colors as well (Okabe & Ito; Tol); the second five have dashes.
FIRST = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")
SECOND = ("#56b4e9", "#e69f00", "#332288", "#882255", "#999933")
LOOKS = [(color, "") for color in FIRST] + [(color, "7 2 2 2") for color in SECOND]
COLORS = "viridis"  # of returns
ZERO = ("#777777", "3 3")  # the zero policy's
MOST_CURVES = len(LOOKS)
MOST_BANDS = 4  # more hide each other
FEW_POINTS = 15  # are marked one by one
MOST_TICKS, MOST_NUMBERS = 12, 64  # of an axis; cells of a heat map that say their number
SIZE = (5.4, 3.5)  # inches
NOTE = (
    "Interquartile mean over seeds and its 95 % bootstrap interval, as far as all seeds were "
    "tested; of a single seed, the mean over test episodes and its 95 % interval."
)
STYLE: Any = {
    "svg.fonttype": "none",  # text is text, in the page's font
    "text.parse_math": False,  # or a $ in a name would be taken for mathematics
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.alpha": 0.3,
}


class Entry(NamedTuple):
    """Of a legend: `dashes` are those of an SVG stroke, empty for a whole line."""

    name: str
    color: str
    dashes: str
    width: float = 2


class Picture(NamedTuple):
    """A drawing as SVG, its legend, a note on it, and the names of what is not drawn."""

    title: str
    svg: str
    note: str = ""
    legend: tuple[Entry, ...] = ()
    hidden: tuple[str, ...] = ()


def pictures(sweep: Sweep, ranked: Sequence[Ranked]) -> list[Picture]:
    """What the number of fields allows: curves always, a heat map for two fields, parallel
    coordinates for more."""
    with matplotlib.rc_context(STYLE):
        drawn = [learning_curves(sweep, ranked), *named_curves(sweep, ranked[0])]
        if len(sweep.fields) == 2:
            drawn.append(heat_map(sweep.fields, ranked))
        elif len(sweep.fields) > 2:
            drawn.append(parallel_coordinates(sweep.fields, ranked))
        return drawn


def learning_curves(sweep: Sweep, ranked: Sequence[Ranked]) -> Picture:
    """Return of the mean policy over the seeds of each of the best configurations; and, where there
    is one or a planner acts, that of the population or the trials as a thin line."""
    best = ranked[:MOST_CURVES]
    seeds = [[metrics(run) for run in sweep.runs_of(row.values)] for row in best]
    unit = unit_of([rows for runs in seeds for rows in runs])
    figure, axes = _empty()
    entries = [Entry(_name(row), *look) for row, look in zip(best, LOOKS, strict=False)]
    for i, (entry, runs) in enumerate(zip(entries, seeds, strict=True)):
        _draw(axes, curve_of(runs, "test/return_mean", unit), entry, i < MOST_BANDS)
    if len(best) == 1 or unit == "trial":
        name = "trials" if unit == "trial" else "population, in episodes of its own"
        thin = [Entry(name, entry.color, entry.dashes, 0.8) for entry in entries]
        for entry, runs in zip(thin, seeds, strict=True):
            _draw(axes, curve_of(runs, "return/mean", unit), entry, False)
        entries += thin[:1]
    zeros = {number(row.zero_policy): row.zero_policy for row in best}
    for said, zero in zeros.items():
        if math.isfinite(zero):
            entries.append(Entry(f"zero policy: {said}", *ZERO, 1.5))
            axes.axhline(zero, **_stroke(entries[-1]))
    _finish(axes, unit)
    return Picture(
        title="Learning curves",
        svg=_svg(figure, "curves"),
        note=NOTE + f" Bands are of the best {MOST_BANDS}." * (len(best) > MOST_BANDS),
        legend=tuple(entries),
        hidden=tuple(label(row.values) for row in ranked[MOST_CURVES:]),
    )


def named_curves(sweep: Sweep, row: Ranked) -> list[Picture]:
    """Where tests are told apart, a picture of their returns over the seeds of a configuration; and
    of the population's by task, as thin lines."""
    seeds = [metrics(run) for run in sweep.runs_of(row.values)]
    names = list(dict.fromkeys(name for rows in seeds for each in rows for name in told_in(each)))
    if len(names) < 2:
        return []
    unit = unit_of(seeds)
    figure, axes = _empty()
    entries = [Entry(shown_name(n, names), *look) for n, look in zip(names, LOOKS, strict=False)]
    populations = 0
    for i, (name, entry) in enumerate(zip(names, entries, strict=False)):
        _draw(axes, curve_of(seeds, f"{group_of(name)}return_mean", unit), entry, i < MOST_BANDS)
        population = curve_of(seeds, f"return/{name}", unit)
        _draw(axes, population, entry._replace(width=0.8), False)
        populations += len(population.x)
    _finish(axes, unit)
    title = "Tests by name" + (f" of {label(row.values)}" if row.values else "")
    note = NOTE + f" Bands are of the first {MOST_BANDS}." * (len(names) > MOST_BANDS)
    note += " Thin lines are of the population, in episodes of its own." * (populations > 0)
    hidden = tuple(names[MOST_CURVES:])
    return [Picture(title, _svg(figure, "names"), note, tuple(entries), hidden)]


def _finish(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit)
    axes.set_ylabel("return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(True)


def _name(row: Ranked) -> str:
    seeds = f" ({row.num_seeds} seeds)" if row.num_seeds > 1 else ""
    return (label(row.values) or "mean policy") + seeds


def _draw(axes: Axes, curve: Curve, entry: Entry, band: bool) -> None:
    few = "o" if len(curve.x) < FEW_POINTS else ""
    axes.plot(curve.x, curve.middle, marker=few, markersize=2 * entry.width, **_stroke(entry))
    if band:
        axes.fill_between(curve.x, curve.low, curve.high, color=entry.color, alpha=0.15, lw=0)


def _stroke(entry: Entry) -> dict[str, Any]:
    """A legend's entry as a line of the picture."""
    dashes = (0, tuple(float(part) for part in entry.dashes.split()))
    style = dashes if entry.dashes else "-"
    return {"color": entry.color, "linestyle": style, "linewidth": entry.width}


def heat_map(fields: Sequence[str], ranked: Sequence[Ranked]) -> Picture:
    """Interquartile mean of the final return over both fields."""
    across, down = fields
    columns, lines = (_sorted([row.values[field] for row in ranked]) for field in fields)
    grid = np.full((len(lines), len(columns)), np.nan)
    for row in ranked:
        at = lines.index(text(row.values[down])), columns.index(text(row.values[across]))
        grid[at] = row.iqm if math.isfinite(row.iqm) else math.nan
    figure, axes = _empty()
    low, high = _ends(ranked)
    mesh = axes.pcolormesh(grid, vmin=low, vmax=high, cmap=COLORS, edgecolors="white")
    for (i, j), value in np.ndenumerate(grid):
        if grid.size <= MOST_NUMBERS and math.isfinite(value):
            ink = "white" if value - low <= 0.6 * (high - low) else "black"
            axes.text(j + 0.5, i + 0.5, format_number(value), color=ink, ha="center", va="center")
    for set_ticks, names in ((axes.set_xticks, columns), (axes.set_yticks, lines)):
        every = -(-len(names) // MOST_TICKS)
        set_ticks(np.arange(0, len(names), every) + 0.5, names[::every])
    short = short_names(fields)
    axes.set_xlabel(short[across])
    axes.set_ylabel(short[down])
    figure.colorbar(mesh)
    title = f"Return over {short[across]} and {short[down]}"
    return Picture(title, _svg(figure, "heat"), "Interquartile mean; empty where seeds diverged.")


def parallel_coordinates(fields: Sequence[str], ranked: Sequence[Ranked]) -> Picture:
    """A line a configuration through its values, colored by its return."""
    ranked = [row for row in ranked if np.isfinite(row.iqm)]
    figure, axes = _empty()
    colors = ScalarMappable(Normalize(*_ends(ranked)), COLORS)
    ticks = [_sorted([row.values[field] for row in ranked]) for field in fields]
    heights = [
        np.linspace(0, 1, len(names)) if len(names) > 1 else [0.5] * len(names) for names in ticks
    ]
    for row in reversed(ranked):
        places = [names.index(text(row.values[f])) for f, names in zip(fields, ticks, strict=True)]
        line = [at[place] for at, place in zip(heights, places, strict=True)]
        axes.plot(range(len(fields)), line, color=colors.to_rgba(row.iqm), linewidth=2)
    for i, (names, at) in enumerate(zip(ticks, heights, strict=True)):
        every = max(len(names) - 1, 1) if len(names) > MOST_TICKS else 1
        for name, height in list(zip(names, at, strict=True))[::every]:
            box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
            axes.text(i, height, name, ha="center", va="center", bbox=box)
    axes.set_xticks(range(len(fields)), short_names(fields).values())
    axes.set_yticks([])
    axes.margins(0.1)
    axes.spines["left"].set_visible(False)
    figure.colorbar(colors, ax=axes)
    note = "A line a configuration, colored by its interquartile mean; without those that diverged."
    return Picture("Return over all fields", _svg(figure, "parallel"), note)


def _ends(ranked: Sequence[Ranked]) -> tuple[float, float]:
    """Of the returns that have a color."""
    finite = [row.iqm for row in ranked if math.isfinite(row.iqm)]
    return min(finite, default=0.0), max(finite, default=1.0)


def _sorted(values: Sequence[Any]) -> list[str]:
    """The texts of values in their order: numbers by size."""
    numbers = all(isinstance(value, int | float) for value in values)
    return list(dict.fromkeys(map(text, sorted(values, key=None if numbers else text))))


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, name: str) -> str:
    """As a part of a page: ids are told apart by the name, or left out where nothing uses them."""
    drawn = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(drawn, format="svg", metadata=nothing)
    svg = drawn.getvalue()
    return re.sub(r' id="[A-Za-z.]+\d?[A-Za-z]*_\d+"', "", svg[svg.index("<svg") :])
