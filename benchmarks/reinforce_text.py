"""What the rows of `reinforce.py` say together: verdicts, and the picture."""

from pathlib import Path
from typing import Any

import numpy as np
from reinforce_settings import (
    BOTH,
    ESTIMATORS,
    HORIZONS,
    PAIRS,
    PARAMETERS,
    POINTS,
    Row,
)

from jaxes.statistics import half_interval


def compared(name: str, difference: float, half: float, **more: Any) -> Row:
    """A difference with half its interval, and what it says."""
    signs = {"above_0": difference > half, "below_0": -difference > half}
    return {"name": name, "difference": difference, "ci95": half, **signs, **more}


def difference(name: str, ours: float, theirs: float, *halves: float) -> Row:
    """With its interval from those of its parts, which are independent."""
    return compared(name, ours - theirs, float(np.linalg.norm(halves)))


def paired_difference(name: str, ours: list[float], theirs: list[float]) -> Row:
    """Of the means of runs by seed, where the runs of a seed begin alike and are not independent:
    with the interval of the mean of their differences."""
    by_seed = np.subtract(ours, theirs)
    half = half_interval(by_seed)
    return compared(name, float(by_seed.mean()), half, by_seed=by_seed.tolist())


def growth(rows: list[Row]) -> list[Row]:
    """Lengths of the gradient and of an estimate's noise, sqrt(tr Cov), by horizon."""
    found = {row["name"]: row for row in rows}
    told = []
    for where in POINTS:
        for name, (objective, _) in ESTIMATORS.items():
            signal, noise = [], []
            for horizon in HORIZONS:
                row = found.get(f"{where}: {name}, {horizon} steps")
                truth = found.get(f"{where}: {objective}, {horizon} steps")
                if row and truth:
                    signal.append(truth["norm_without_noise"])
                    noise.append(row["noise"])
            told.append({"name": f"{where}: {name}", "signal": signal, "noise": noise})
    return [{"part": "growth", "horizons": list(HORIZONS), **row} for row in told]


def falls(rows: dict[str, Row], where: str) -> dict[str, Row]:
    """How much the cosine of each estimator falls from the shortest horizon to the longest."""
    first, last = HORIZONS[0], HORIZONS[-1]
    told = {}
    for name in ESTIMATORS:
        ends = [rows.get(f"{where}: {name}, {horizon} steps") for horizon in (first, last)]
        if all(ends):
            cosines, halves = zip(*((row["cosine"], row["ci95"]) for row in ends), strict=True)
            title = f"{where}: {name}: {first} steps less {last}"
            told[name] = difference(title, *cosines, *halves)
    return told


def verdicts(rows: list[Row]) -> list[Row]:
    """How much cosines fall with the horizon; who falls by more; who comes further with equal
    episodes; and where estimates were left out."""
    found = {row["name"]: row for row in rows}
    told = []
    for where in POINTS:
        fall = falls(found, where)
        told += fall.values()
        if BOTH in fall and PAIRS in fall:
            title = f"{where}: fall of {BOTH} less fall of {PAIRS}"
            parts = [[fall[name][key] for name in (BOTH, PAIRS)] for key in ("difference", "ci95")]
            told.append(difference(title, *parts[0], *parts[1]))
    for horizon in HORIZONS:
        pair = [found.get(f"{name}, {horizon} steps") for name in (BOTH, PAIRS)]
        if all(pair):
            title = f"return, {BOTH} less {PAIRS}, {horizon}"
            told.append(paired_difference(title, *(row["by_seed"] for row in pair)))
    for row in rows:
        if row.get("not_finite"):
            title = f"{row['name']}: estimates left out, since they are not finite"
            told.append({"name": title, "not_finite": row["not_finite"]})
    return [{"part": "verdict", **row} for row in told]


def draw(rows: list[Row], path: Path) -> None:
    """Cosines over horizons at each policy, and return curves at the middle horizon."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "jaxes"  # the same picture to the byte, whenever it is drawn
    colors = dict(zip(ESTIMATORS, plt.get_cmap("tab10").colors, strict=False))
    fig, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for ax, where in zip(axes, POINTS, strict=False):
        gradients = [row for row in rows if row["part"] == "gradient" and row["policy"] == where]
        draw_cosines(ax, gradients, colors)
        ax.set_title(f"{where} policy")
    axes[0].set_ylabel("cosine with its own gradient")
    curves = [row for row in rows if row["part"] == "curve" and row["horizon"] == HORIZONS[1]]
    draw_returns(axes[2], curves, colors)
    axes[2].set_title(f"{HORIZONS[1]} steps")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    fig.savefig(path, metadata={"Date": None})


def draw_cosines(ax: Any, rows: list[Row], colors: dict[str, Any]) -> None:
    """Of one policy."""
    for name in ESTIMATORS:
        mine = [row for row in rows if row["estimator"] == name]
        values = [[row[key] for row in mine] for key in ("horizon", "cosine", "ci95")]
        style = "--" if ESTIMATORS[name].objective == PARAMETERS else "-"
        ax.errorbar(*values[:2], yerr=values[2], fmt=style, color=colors[name], label=name)
    ax.set(xscale="log", ylim=(-0.25, 1.05), xlabel="horizon, steps")
    ax.set_xticks(HORIZONS, [f"{horizon:,}" for horizon in HORIZONS])
    ax.minorticks_off()


def draw_returns(ax: Any, rows: list[Row], colors: dict[str, Any]) -> None:
    """Over episodes, with the intervals of their means."""
    for row in rows:
        means, halves = np.array(row["means"]), np.array(row["halves"])
        color = colors[row["estimator"]]
        ax.plot(row["episodes"], means, color=color)
        ends = means - halves, means + halves
        ax.fill_between(row["episodes"], *ends, color=color, alpha=0.2, lw=0)
    ax.set(xlabel="episodes", ylabel="return without noise")
