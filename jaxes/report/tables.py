"""Tables: configurations of a sweep in order, by interquartile means over seeds."""

import contextlib
import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from jaxes.statistics import with_interval
from jaxes.sweeps.table import COLUMNS, rank_key, scores_of
from jaxes.terminal import format_number
from jaxes.training.directory import read_identity
from jaxes.training.metrics import Row, read_rows


class Sweep(NamedTuple):
    """A finished sweep: its folder, the names of the swept fields, and a row for each trial."""

    path: Path
    fields: list[str]
    rows: list[dict[str, Any]]

    def configurations(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The values of each configuration, and the rows of its seeds."""
        by_values: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            values = {field: row[field] for field in self.fields}
            by_values.setdefault(json.dumps(values), []).append(row)
        return [(json.loads(values), rows) for values, rows in by_values.items()]

    def metrics(self, row: dict[str, Any]) -> list[Row]:
        """The generations of a trial."""
        return read_rows(self.path / "trials" / f"{row['trial']:04d}" / "metrics.jsonl")[0]


class Ranked(NamedTuple):
    """A configuration's scores over its seeds: returns, -inf of a seed that diverged.

    Attributes:
      values: of the swept fields.
      num_seeds: how many runs it has.
      iqm: the interquartile mean of their scores.
      low: lower end of its 95 % bootstrap confidence interval; NaN with a single seed.
      high: the upper end.
      best: the greatest score.
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
      ValueError: there are none, or they are of another format.
    """
    if (path / "run.json").exists():
        read_identity(path)
    table = path / "results.csv"
    if not table.is_file():
        raise ValueError(f"sweep: {path} holds no finished sweep (no results.csv in it)")
    with table.open(newline="") as file:
        rows = [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]
    for row in rows:  # of a sweep that ended before there was such a column
        row.setdefault("score", -math.inf if row["status"] == "diverged" else row["return_mean"])
    if not rows:
        raise ValueError(f"sweep: {table} has no rows")
    return Sweep(path, [name for name in rows[0] if name not in COLUMNS], rows)


def rank(sweep: Sweep) -> list[Ranked]:
    """All configurations, the best one first: see `rank_key`."""
    ranked = []
    for values, rows in sweep.configurations():
        scores = scores_of(rows)
        middle, low, high = with_interval(scores)
        row = Ranked(
            values=values,
            num_seeds=len(rows),
            iqm=middle,
            low=low,
            high=high,
            best=float(np.max(scores)),
            diverged=sum(row["status"] == "diverged" for row in rows),
            dropped=any(row["status"] == "dropped" for row in rows),
        )
        ranked.append((rank_key(rows), row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def table(sweep: Sweep, ranked: list[Ranked]) -> Table:
    """The ranking as a terminal shows it."""
    table = Table()
    for name in (*sweep.fields, "seeds", "return (IQM)", "95 % interval", "best", ""):
        table.add_column(name.removeprefix("strategy."), overflow="fold")
    for row in ranked:
        remarks = ["dropped"] * row.dropped + [f"{row.diverged} diverged"] * bool(row.diverged)
        table.add_row(
            *("-" if row.values[name] is None else str(row.values[name]) for name in sweep.fields),
            str(row.num_seeds),
            format_number(row.iqm),
            "-"
            if math.isnan(row.low)
            else f"{format_number(row.low)} to {format_number(row.high)}",
            format_number(row.best),
            ", ".join(remarks),
        )
    return table


def _value(text: str) -> Any:
    """A cell as the number that it was, or as text; None where the trial has no such field."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text or None
