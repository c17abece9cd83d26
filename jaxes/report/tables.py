"""Tables: configurations of a sweep in order, by interquartile means over seeds."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from jaxes.statistics import with_interval
from jaxes.sweeps.table import MEASURE, is_swept, rank_key, read_table, scores_of
from jaxes.terminal import format_number
from jaxes.training.identity import read_identity
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
      zero_policy: mean return of the policy with all parameters zero.
      standing: whether it is not above the zero policy: the lower end of its interval, with a
        single seed of that over its test episodes, does not exceed that return.
      episode_length: steps of a test episode, on average over the seeds.
      measures: means of what the environment measures, by name.
    """

    values: dict[str, Any]
    num_seeds: int
    iqm: float
    low: float
    high: float
    best: float
    diverged: int
    dropped: bool
    zero_policy: float
    standing: bool
    episode_length: float
    measures: dict[str, float]


def read_sweep(path: Path) -> Sweep:
    """The results of a sweep.

    Raises:
      ValueError: there are none, or they are of another format.
    """
    if (path / "run.json").exists():
        read_identity(path)
    rows = read_table(path)
    return Sweep(path, list(filter(is_swept, rows[0])), rows)


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
            zero_policy=(zero := _mean_of(rows, "zero_policy_return")),
            standing=not (_lower_end(rows) if math.isnan(low) else low) > zero,
            episode_length=_mean_of(rows, "episode_length"),
            measures={
                name.removeprefix(MEASURE): _mean_of(rows, name)
                for name in rows[0]
                if name.startswith(MEASURE)
            },
        )
        ranked.append((rank_key(rows), row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


def table(sweep: Sweep, ranked: list[Ranked]) -> Table:
    """The ranking as a terminal shows it."""
    table = Table()
    measures = [name for name in ranked[0].measures if name != "alive_reward"]
    about = ["zero policy", "steps", *measures] if ranked[0].episode_length > 0 else []
    for name in (*sweep.fields, "seeds", "return (IQM)", "95 % interval", "best", *about, ""):
        table.add_column(name.removeprefix("strategy."), overflow="fold")
    for row in ranked:
        remarks = ["dropped"] * row.dropped + [f"{row.diverged} diverged"] * bool(row.diverged)
        remarks += ["not above the zero policy"] * (row.standing and bool(about))
        told = [row.zero_policy, row.episode_length, *(row.measures[name] for name in measures)]
        table.add_row(
            *("-" if row.values[name] is None else str(row.values[name]) for name in sweep.fields),
            str(row.num_seeds),
            format_number(row.iqm),
            "-"
            if math.isnan(row.low)
            else f"{format_number(row.low)} to {format_number(row.high)}",
            format_number(row.best),
            *(format_number(value) for value in told[: len(about)]),
            ", ".join(remarks),
        )
    return table


def _mean_of(rows: list[dict[str, Any]], name: str) -> float:
    """Over seeds; NaN where the column is not there: of a sweep that ended before it was."""
    values = [row.get(name) for row in rows]
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _lower_end(rows: list[dict[str, Any]]) -> float:
    """Of the 95 % interval of a single run's mean return, over its test episodes; -inf of several
    runs, one of which diverged."""
    if len(rows) > 1:
        return -math.inf
    row = rows[0]
    episodes = row["num_test_episodes"] - row["num_test_diverged"]
    return row["score"] - 1.96 * row["return_std"] / math.sqrt(max(episodes, 1))
