"""The table as Markdown, from the rows that `table.py collect` keeps.

Over the seeds of a row each number is an interquartile mean with its 95 % bootstrap interval
(`jaxes.statistics`). One algorithm is said to be ahead of another only where their intervals are
apart.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from table_rows import returns_of
from table_search import cost_told
from table_settings import FINAL_EPISODES, MARKS, SETTINGS, STILL, TASKS, TEST_EPISODES

from jaxes.statistics import probability_of_improvement, with_interval

NOT_RUN, NOTHING = "not run", "-"
Row = Mapping[str, Any]


class Interval(NamedTuple):
    """An interquartile mean over seeds, and the ends of its interval; NaN where there is none."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Interval":
        """Of what seeds had; None of one that diverged counts as -inf. NaN of none."""
        known = np.array([-math.inf if x is None else x for x in values], float)
        return cls(*with_interval(known)) if known.size else cls(math.nan, math.nan, math.nan)

    def __str__(self) -> str:
        if math.isnan(self.middle):
            return NOTHING
        if not math.isfinite(self.middle):
            return "diverged"
        known = not math.isnan(self.low)
        return number(self.middle) + known * f" ({number(self.low)} to {number(self.high)})"

    def is_above(self, other: "Interval") -> bool:
        """Whether it is apart from the other one, and above it."""
        return self.low > other.high


def number(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def drawn(result: Mapping[str, Any], source: str) -> str:
    """All tasks, each with its table, who is better than whom, and its settings."""
    parts = [_heading(source)]
    for task in TASKS:
        rows = {row["algorithm"]: row for row in result["rows"] if row["task"] == task}
        searches = {row["algorithm"]: row for row in result["searches"] if row["task"] == task}
        parts.append(f"## {task}\n")
        parts.append(returns_table(task, rows))
        if len(rows) > 1:
            parts += [improvement_table(rows), verdict(rows)]
        if rows:
            parts.append(settings_table(rows, searches))
        if found := result.get("films", {}).get(task):
            parts.append(film_of(found))
    if all("cpu" in row["devices"] for row in result["rows"]):
        parts.append(f"## On a GPU\n\n{NOT_RUN}\n")
    return "\n".join(parts)


def film_of(film: Row) -> str:
    """As a page beside the folder `films` shows it."""
    said = f"{film['algorithm']}, seed {film['seed']}, return {number(film['return'])}"
    video = f'<video controls muted loop src="../../films/{film["file"]}"></video>'
    return f"An episode of the best seed ({said}):\n\n{video}\n"


def _heading(source: str) -> str:
    return f"""Drawn by `benchmarks/table.py draw` from `{source}`. Numbers are interquartile means
over seeds with 95 % bootstrap intervals. A return at so many steps is that of the last test at or
before them, of {TEST_EPISODES} episodes; the end, its distance and the probabilities are of
{FINAL_EPISODES} more. Distance is in meters, forward. Steps are environment steps of training;
seconds are a seed's share of the machine, with tests and without compilation, and compare on one
machine alone. A strategy's seeds share a program; those of PPO run one after another.

Settings of evolution strategies are given, or were searched on these tasks: the last table of each
says which, and what a search cost. PPO has those that Brax publishes, made for 50 M steps.
Bootstrap intervals of five seeds never leave the range of the runs, and are narrow.
"""


def returns_table(task: str, rows: Mapping[str, Row]) -> str:
    """A line an algorithm, and one of the zero policy."""
    threshold = f"{TASKS[task].threshold:,}"
    head = ["algorithm", *(f"{mark // 10**6} M" for mark in MARKS), "end", "distance"]
    head += [f"steps to {threshold}", "seconds", "seeds", "remarks"]
    zero = zero_policy(rows.values())
    lines = [["zero policy", *[NOTHING] * len(MARKS), str(zero), *[NOTHING] * 5]] if rows else []
    for name in ("ppo", *SETTINGS[task]):
        if name not in rows:
            lines.append([name, *[NOT_RUN] * (len(head) - 2), ""])
            continue
        row = rows[name]
        lines.append([name, *(_at(row, mark) for mark in MARKS), str(end(row)), str(distance(row))])
        reached = [seed["reached"] for seed in row["seeds"]]
        lines[-1] += [_reached(reached, unit) for unit in ("steps", "seconds")]
        lines[-1] += [str(len(row["seeds"])), "; ".join(remarks(row, zero))]
    return table(head, lines)


def end(row: Row) -> Interval:
    return Interval.of(returns_of(row))


def distance(row: Row) -> Interval:
    """How far episodes led; NaN where the task has no such measure."""
    distances = [seed["final"]["measures"].get("distance") for seed in row["seeds"]]
    return Interval.of(math.nan if x is None else x for x in distances)


def zero_policy(rows: Iterable[Row]) -> Interval:
    """The return of the policy with all parameters zero, over the seeds: it plays the same episodes
    of a seed, whatever was trained."""
    by_seed = {
        seed["seed"]: seed["final"]["zero_policy_return"] for row in rows for seed in row["seeds"]
    }
    return Interval.of(by_seed.values())


def remarks(row: Row, zero: Interval) -> list[str]:
    """That a policy stands still, or that seeds diverged."""
    found = []
    if diverged := num_diverged(row):
        found.append(f"{diverged} diverged, so that there is no interval")
    elif not end(row).is_above(zero):
        found.append("not above the zero policy")
    if abs(distance(row).middle) < STILL:
        found.append("does not move on")
    return found


def num_diverged(row: Row) -> int:
    """How many seeds did at their ends."""
    return int(sum(score == -math.inf for score in returns_of(row)))


def _at(row: Row, mark: int) -> str:
    if mark > row["protocol"]["steps"]:
        return NOT_RUN
    seeds = [seed["at"].get(str(mark)) for seed in row["seeds"]]
    return "no test yet" if None in seeds else str(Interval.of(seed["return"] for seed in seeds))


def _reached(seeds: Sequence[Mapping[str, float] | None], unit: str) -> str:
    """Of all seeds; or how many of them there are."""
    known = [seed[unit] for seed in seeds if seed is not None]
    return str(Interval.of(known)) if len(known) == len(seeds) else f"{len(known)} of {len(seeds)}"


def improvement_table(rows: Mapping[str, Row]) -> str:
    """P(a run of the line's algorithm ends above one of the column's)."""
    return table(
        ["P(line > column)", *rows],
        [
            [name, *(NOTHING if other == name else _better(rows, name, other) for other in rows)]
            for name in rows
        ],
    )


def _better(rows: Mapping[str, Row], name: str, other: str) -> str:
    middle, low, high = probability_of_improvement(*map(returns_of, (rows[name], rows[other])))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def verdict(rows: Mapping[str, Row]) -> str:
    """Who is ahead, where intervals are apart; what has none is not spoken of."""
    ends = {name: end(row) for name, row in rows.items() if not num_diverged(row)}
    if len(ends) < 2:
        return ""
    best = max(ends, key=lambda name: ends[name].middle)
    others = [name for name in ends if name != best]
    behind = [name for name in others if ends[best].is_above(ends[name])]
    if behind == others:
        return f"At the end {best} is ahead of all others.\n"
    level = ", ".join(name for name in others if name not in behind)
    said = f"At the end the intervals of {best} and {level} overlap: neither is ahead."
    return said + f" Behind {best}: {', '.join(behind)}.\n" * bool(behind) + "\n" * (not behind)


def settings_table(rows: Mapping[str, Row], searches: Mapping[str, Row]) -> str:
    """What each was run with, and how that was found."""
    head = [
        "algorithm",
        "policy",
        "population",
        "settings",
        "found by",
        "seconds, compilation",
        "on",
    ]
    lines = []
    for name, row in rows.items():
        settings, search = row["settings"], searches.get(name)
        numbers = settings["numbers"] | {"alive_penalty": settings["problem"].get("alive_penalty")}
        told = {x: y for x, y in numbers.items() if type(y) in (int, float) and x != "chunk_size"}
        policy, machine = settings["policy"], row["machine"]
        place = f"{len(row['devices'].split(', '))} x {machine['processor']}"
        hidden = policy.get("hidden")
        lines.append(
            [
                name,
                policy["name"] + (f" {tuple(hidden)}" if hidden is not None else ""),
                str(settings["population_size"] or NOTHING),
                ", ".join(f"{x} {y:g}" for x, y in told.items()),
                settings["numbers"].get("source") or (cost_told(search) if search else "given"),
                f"{row['seconds']:,.0f}, {row['compile_seconds']:,.0f}",
                ", ".join([place, *(f"{x} {y}" for x, y in row["versions"].items())]),
            ]
        )
    return table(head, lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """As Markdown has it."""
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |\n"  # noqa: E731
    return line(head) + line(["---"] * len(head)) + "".join(map(line, lines))
