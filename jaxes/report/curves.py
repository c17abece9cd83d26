"""Numbers of learning curves: what the seeds of a configuration had, generation by generation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxes.statistics import with_interval
from jaxes.training.metrics import Row
from jaxes.training.tested import group_of, name_in, score_of

MOST_POINTS = 100  # of a curve; each costs a bootstrap
STEPS = "environment steps"


class Curve(NamedTuple):
    """Points [P] with the ends of their intervals; NaN where a seed diverged, or where there is no
    interval."""

    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def unit_of(runs: Sequence[Sequence[Row]]) -> str:
    """What runs are drawn against: a planner's trials, or environment steps if all count them."""
    firsts = [rows[0] for rows in runs if rows]
    if firsts and all("plan/best" in row for row in firsts):
        return "trial"
    return STEPS if all("rollout/env_steps" in row for row in firsts) else "generation"


def curve_of(seeds: Sequence[Sequence[Row]], name: str, unit: str) -> Curve:
    """The interquartile mean over seeds of what is called `name`, where all of them have it, with
    its interval; of a single seed's tests, their own.

    Args:
      seeds: the rows of each seed's generations.
      name: of a metric; a test in which an episode diverged counts as -inf.
      unit: see `unit_of`.
    """
    runs = [_by_generation(rows, name, unit) for rows in seeds]
    common = sorted(set.intersection(*(set(run) for run in runs)))
    few = np.linspace(0, len(common) - 1, min(len(common), MOST_POINTS)).round().astype(int)
    points = [_point([run[common[i]] for run in runs]) for i in few]
    return Curve(*np.array(points, float).reshape(-1, 4).T)


def _by_generation(rows: Sequence[Row], name: str, unit: str) -> dict[int, tuple[float, ...]]:
    """Where it is on the horizontal axis, the value, and half of its interval, by generation."""
    points: dict[int, tuple[float, ...]] = {}
    steps = 0.0
    for row in rows:
        steps += row.get("rollout/env_steps") or 0
        if name in row:
            tested = name_in(name)
            value = row[name] if tested is None else score_of(row, tested)
            half = None if tested is None else row.get(f"{group_of(tested)}return_ci95")
            x = steps if unit == STEPS else row["generation"]
            points[row["generation"]] = (x, _number(value), _number(half))
    return points


def _point(seeds: Sequence[tuple[float, ...]]) -> tuple[float, float, float, float]:
    """Of all seeds at a generation."""
    x, values, halves = np.array(seeds, float).T
    if len(values) == 1:
        middle, low, high = values[0], values[0] - halves[0], values[0] + halves[0]
    else:
        middle, low, high = with_interval(values)
    return float(np.mean(x)), middle if math.isfinite(middle) else math.nan, low, high


def _number(value: float | None) -> float:
    return math.nan if value is None else value
