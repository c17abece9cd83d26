"""Configurations of a sweep in order, by interquartile means over seeds."""

import contextlib
import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from rich.table import Table

from jaxes.sweeps.results import Result, interquartile_mean, returns_of, standing
from jaxes.training.display import number
from jaxes.training.metrics import Row, read_rows

CONFIDENCE = 0.95
RESAMPLES = 2000


class Sweep(NamedTuple):
    """A finished sweep: its folder, the names of the swept fields, and a row for each trial."""

    path: Path
    fields: list[str]
    rows: list[dict[str, Any]]

    def configurations(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The values of each configuration, and the rows of its seeds."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            values = {field: row[field] for field in self.fields}
            found.setdefault(json.dumps(values), []).append(row)
        return [(json.loads(values), rows) for values, rows in found.items()]

    def metrics(self, row: dict[str, Any]) -> list[Row]:
        """The generations of a trial."""
        return read_rows(self.path / "trials" / f"{row['trial']:04d}" / "metrics.jsonl")[0]


class Ranked(NamedTuple):
    """A configuration's returns over its seeds.

    Attributes:
      values: of the swept fields.
      num_seeds: how many runs it has.
      iqm: the interquartile mean of their returns.
      low: lower end of its 95 % bootstrap confidence interval; NaN with a single seed.
      high: the upper end.
      best: the greatest return.
      diverged: how many of the runs diverged.
      dropped: whether halving dropped it.
    """

    values: dict[str, Any]
    num_seeds: int
    iqm: float
    low: float
    high: float
    best: float
    diverged: int
    dropped: bool


def read_sweep(path: Path) -> Sweep:
    """The results of a sweep.

    Raises:
      ValueError: there are none.
    """
    table = path / "results.csv"
    if not table.is_file():
        raise ValueError(f"sweep: {path} holds no finished sweep (no results.csv in it)")
    with table.open(newline="") as file:
        rows = [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    if not rows:
        raise ValueError(f"sweep: {table} has no rows")
    known = set(Result._fields)
    return Sweep(path, [name for name in rows[0] if name not in known], rows)


def rank(sweep: Sweep) -> list[Ranked]:
    """All configurations, the best one first: see `standing`.

    The interquartile mean leaves out the best and the worst quarter of the seeds.
    Reference: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice
    (NeurIPS 2021), arXiv:2108.13264.
    """
    ranked = []
    for values, rows in sweep.configurations():
        returns = returns_of(rows)
        middle, low, high = with_interval(returns)
        row = Ranked(
            values=values,
            num_seeds=len(rows),
            iqm=middle,
            low=low,
            high=high,
            best=float(np.max(returns)),
            diverged=sum(row["status"] == "diverged" for row in rows),
            dropped=any(row["status"] == "dropped" for row in rows),
        )
        ranked.append((standing(rows), row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def with_interval(samples: np.ndarray) -> tuple[float, float, float]:
    """The interquartile mean of samples [S], and the ends of its bootstrap confidence interval."""
    middle = float(interquartile_mean(samples))
    if samples.size < 2 or not np.isfinite(samples).all():
        return middle, math.nan, math.nan
    if np.ptp(samples) == 0:
        return middle, middle, middle
    interval = scipy.stats.bootstrap(
        (samples,),
        interquartile_mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return middle, float(interval.low), float(interval.high)


def table(sweep: Sweep, ranked: list[Ranked]) -> Table:
    """The ranking as a terminal shows it."""
    table = Table()
    for name in (*sweep.fields, "seeds", "return (IQM)", "95 % interval", "best", ""):
        table.add_column(name.removeprefix("strategy."), overflow="fold")
    for row in ranked:
        words = ["dropped"] * row.dropped + [f"{row.diverged} diverged"] * bool(row.diverged)
        table.add_row(
            *("-" if row.values[name] is None else str(row.values[name]) for name in sweep.fields),
            str(row.num_seeds),
            number(row.iqm),
            "-" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}",
            number(row.best),
            ", ".join(words),
        )
    return table


def _value(text: str) -> Any:
    """A cell as the number that it was, or as text; None where the trial has no such field."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text or None
