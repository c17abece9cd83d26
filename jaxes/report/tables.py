"""Tables: configurations in order, by interquartile means over seeds, and all runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxes.core import is_base
from jaxes.report.runs import Sweep, names_of
from jaxes.statistics import with_interval
from jaxes.sweeps.table import MEASURE, rank_key, scores_of
from jaxes.terminal import format_number
from jaxes.training.metrics import Row, is_finite

NOTHING = "-"  # in a cell
# What rows tell of tests but for what the environment measures and has a column.
TOLD = ("return_mean", "return_std", "return_ci95", "diverged", "truncated", "alive_reward")


class Ranked(NamedTuple):
    """A configuration's scores over its seeds: returns, -inf of a seed that diverged.

    Attributes:
      values: of the fields that tell configurations apart.
      num_seeds: how many runs it has.
      iqm: the interquartile mean of their scores; NaN where one was not tested yet.
      low: lower end of its 95 % bootstrap confidence interval; NaN with a single seed.
      high: the upper end.
      best: the greatest score.
      diverged: how many of the runs diverged.
      unfinished: how many could go on.
      dropped: whether halving dropped it.
      zero_policy: mean return of the policy with all parameters zero; NaN where it is not known.
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
    unfinished: int
    dropped: bool
    zero_policy: float
    standing: bool
    episode_length: float
    measures: dict[str, float]

    @property
    def remarks(self) -> str:
        counts = [(self.diverged, "diverged"), (self.unfinished, "unfinished")]
        remarks = ["dropped"] * self.dropped
        remarks += [f"{count} {what}" for count, what in counts if count]
        remarks += ["not above the zero policy"] * (self.standing and self.episode_length > 0)
        return ", ".join(remarks)


def rank(sweep: Sweep) -> list[Ranked]:
    """All configurations, the best one first: see `rank_key`."""
    ranked = []
    for values, rows in sweep.configurations():
        scores = scores_of(rows)
        middle, low, high = with_interval(scores)
        states = [row["status"] for row in rows]
        row = Ranked(
            values=values,
            num_seeds=len(rows),
            iqm=middle,
            low=low,
            high=high,
            best=float(np.max(scores)),
            diverged=states.count("diverged"),
            unfinished=states.count("unfinished"),
            dropped="dropped" in states,
            zero_policy=(zero := _mean_of(rows, "zero_policy_return")),
            standing=(_lower_end(rows) if math.isnan(low) else low) <= zero,
            episode_length=_mean_of(rows, "episode_length"),
            measures={
                name.removeprefix(MEASURE): _mean_of(rows, name)
                for name in rows[0]
                if name.startswith(MEASURE)
            },
        )
        ranked.append((rank_key(rows), row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])]


class Column(NamedTuple):
    """Of a table, with what its cells are: a `detail` is left out first where there is no room."""

    name: str
    cells: list[str]
    kind: Literal["field", "result", "detail", "text"]


def ranking(sweep: Sweep, ranked: Sequence[Ranked]) -> list[Column]:
    """A line a configuration; columns in which nothing is known are left out."""
    played = ranked if any(row.episode_length > 0 for row in ranked) else []
    seeded = ranked if any(row.num_seeds > 1 for row in ranked) else []
    measures = dict.fromkeys(
        name for row in ranked for name in row.measures if name != "alive_reward"
    )
    columns = [
        *_of_fields(sweep.fields, [row.values for row in ranked]),
        Column("return (IQM)", [number(row.iqm) for row in ranked], "result"),
        Column("95 % interval", [_interval(row) for row in ranked], "result"),
        Column("seeds", [str(row.num_seeds) for row in ranked], "detail"),
        Column("zero policy", [number(row.zero_policy) for row in played], "detail"),
        Column("best", [number(row.best) for row in seeded], "detail"),
        Column("steps", [number(row.episode_length) for row in played], "detail"),
        *(
            Column(name, [number(row.measures.get(name)) for row in ranked], "detail")
            for name in measures
        ),
        Column("remarks", [row.remarks for row in ranked], "text"),
    ]
    return _known(columns)


def all_runs(sweep: Sweep) -> list[Column]:
    """A line a run, with the time that it took."""
    rows = sweep.rows
    names = names_of([row["run_dir"] for row in rows])
    played = rows if any(row["env_steps"] for row in rows) else []
    speeds = [row["env_steps"] / row["seconds"] if row["seconds"] else 0 for row in played]
    return _known(
        [
            Column("run", names, "field"),
            Column("return ± 95 %", [_with_error(row) for row in rows], "result"),
            *_of_fields([field for field in sweep.fields if field != "run"], rows),
            Column("seed", [str(row["seed"]) for row in rows], "result"),
            Column("status", [row["status"] for row in rows], "text"),
            Column("generations", [number(row["generation"]) for row in rows], "result"),
            Column("best test", [number(row.get("best_return")) for row in rows], "result"),
            Column("steps", [f"{row['env_steps']:,}" for row in played], "result"),
            Column("seconds", [number(row["seconds"]) for row in rows], "result"),
            Column("steps/s", [f"{speed:,.0f}" for speed in speeds], "result"),
            Column("bytes sent", [number(row.get("net_bytes")) for row in rows], "detail"),
            Column("waited", [_share(row.get("waited")) for row in rows], "detail"),
        ]
    )


def _share(part: float | None) -> str:
    return NOTHING if part is None else f"{part:.0%}"


def named_tests(told: Mapping[str, Row]) -> list[Column]:
    """A line a name of a run's tests, that of those that count first; see `runs.told_by_name`. None
    where they are of one kind alone."""
    if len(told) < 2:
        return []
    rows = list(told.values())
    measures = dict.fromkeys(field for row in rows for field in row if field not in TOLD)
    return _known(
        [
            Column("tests", [shown_name(name, told) for name in told], "field"),
            Column("return ± 95 %", [_with_error(row) for row in rows], "result"),
            Column("diverged", [number(row["diverged"] or None) for row in rows], "result"),
            *(Column(each, [number(row.get(each)) for row in rows], "detail") for each in measures),
        ]
    )


def shown_name(name: str, names: Iterable[str]) -> str:
    """What tests are called among these names: the empty one is that of those that count."""
    return name or ("all tasks" if any(each and is_base(each) for each in names) else "base")


def differences(sweep: Sweep) -> list[Column]:
    """A line a field in which runs differ, and a column a configuration."""
    configurations = [
        Column(label(values), [text(rows[0][field]) for field in sweep.differences], "text")
        for values, rows in sweep.configurations()
    ]
    return [Column("field", sweep.differences, "field"), *configurations]


def label(values: Mapping[str, Any]) -> str:
    """A configuration in a line: what is named by its name alone, what it lacks left out."""
    short = short_names(list(values))
    return ", ".join(
        text(value) if field.endswith("name") or field == "run" else f"{short[field]}={text(value)}"
        for field, value in values.items()
        if value is not None
    )


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """The shortest ends of paths that tell fields apart; `strategy.name` is `strategy`."""
    paths = {field: field.removesuffix(".name").split(".") for field in fields}

    def shortest(path: list[str]) -> str:
        for length in range(1, len(path)):
            if sum(other[-length:] == path[-length:] for other in paths.values()) == 1:
                return ".".join(path[-length:])
        return ".".join(path)

    return {field: shortest(path) for field, path in paths.items()}


def text(value: Any) -> str:
    """A field's value."""
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """A number; NOTHING where it is not known."""
    return NOTHING if value is None or math.isnan(value) else format_number(value)


def _of_fields(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    short = short_names(fields)
    return [Column(short[name], [text(row[name]) for row in rows], "field") for name in fields]


def _known(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if set(column.cells) - {"", NOTHING}]


def _interval(row: Ranked) -> str:
    known = not math.isnan(row.low)
    return f"{format_number(row.low)} to {format_number(row.high)}" if known else NOTHING


def _with_error(row: Mapping[str, Any]) -> str:
    error = row.get("return_ci95")
    return number(row.get("return_mean")) + (f" ± {number(error)}" if is_finite(error) else "")


def _mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """Over seeds; NaN where the column is not there: of a sweep that ended before it was."""
    values = [row.get(name) for row in rows]
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _lower_end(rows: Sequence[Mapping[str, Any]]) -> float:
    """Of the 95 % interval of a single run's mean return, over its test episodes; -inf of several
    runs, one of which diverged."""
    if len(rows) > 1:
        return -math.inf
    error = rows[0].get("return_ci95")
    return rows[0]["score"] - (error if is_finite(error) else 0.0)
