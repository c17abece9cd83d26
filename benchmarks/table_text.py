"""The table as Markdown, from the rows that `table.py collect` keeps.

Over the seeds of a row each number is an interquartile mean with its 95 % bootstrap interval
(`jaxes.statistics`). One algorithm is said to be ahead of another only where their intervals are
apart, as they are printed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from machine import place
from table_rows import Row, best_of, mean_of_whole, returns_of, shown_by
from table_search import found_by
from table_settings import (
    EPISODE_LENGTH,
    FINAL_EPISODES,
    MARKS,
    SETTINGS,
    STILL,
    TASKS,
    TEST_EPISODES,
    WHOLE,
)

from jaxes.statistics import probability_of_improvement, with_interval

NOT_RUN, NOTHING = "not run", "-"
FEWEST = 3  # seeds, of which one is said to be ahead of another


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
        """Whether it is apart from the other one, and above it, as both are printed."""
        return as_printed(self.low) > as_printed(other.high)


def number(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    """How many of them are told behind the point."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def as_printed(value: float) -> float:
    return round(value, _digits(value)) if math.isfinite(value) else value


def drawn(result: Mapping[str, Any], source: str) -> str:
    """All tasks, each with its table, who is better than whom, and its settings."""
    whole = result.get("whole")
    is_whole = mean_of_whole(whole) >= WHOLE
    parts = [_heading(source), whole_told(whole) if is_whole else ""]
    for task in TASKS:
        rows = {row["algorithm"]: row for row in result["rows"] if row["task"] == task}
        parts.append(f"## {task}\n")
        parts.append(returns_table(task, rows, is_whole))
        if len(rows) > 1:
            parts += [improvement_table(rows), verdict(rows)]
        if rows:
            parts.append(settings_table(task, rows, result["searches"]))
        if found := result.get("films", {}).get(task):
            parts.append(film_of(found, rows.values()))
    if all(row["machine"]["device"] == "cpu" for row in result["rows"]):
        parts.append(f"## On a GPU\n\n{NOT_RUN}\n")
    return "\n".join(filter(None, parts))


def whole_told(about: Row) -> str:
    """That PPO is no crippled peer."""
    returns, steps = Interval.of(about["returns"]), about["steps"] / 1e6
    return (
        f"That it is whole was seen first: with the notebook's physics, {about['backend']}, it "
        f"comes to {returns} on inverted_pendulum after {steps:.1f} M steps, "
        f"{len(about['returns'])} seeds. The tables below are of other physics, for all.\n"
    )


def film_of(film: Row, rows: Iterable[Row]) -> str:
    """As a page beside the folder `films` shows it, if it is of what is the best now."""
    best = best_of(rows)
    if best is None or film != {"file": film["file"]} | shown_by(*best):
        return ""
    said = f"{film['algorithm']}, seed {film['seed']}, a mean of {number(film['return'])}"
    video = f'<video controls muted loop src="../../films/{film["file"]}"></video>'
    return f"How an episode of the strategies' best seed ({said}) begins:\n\n{video}\n"


def _heading(source: str) -> str:
    return f"""Drawn by `benchmarks/table.py draw` from `{source}`. Numbers are interquartile means
over seeds with 95 % bootstrap intervals. A return at so many steps is that of the last test at or
before them, of {TEST_EPISODES} episodes; the end, its distance and the probabilities are of
{FINAL_EPISODES} more. Distance is in meters, forward; length is the mean number of steps of an
episode, of at most {EPISODE_LENGTH:,}. Steps are environment steps of training; seconds, a plain
mean too, are a seed's share of the machine, with tests and without compilation, and compare on one
machine alone; compilation is that of the last start. A strategy's seeds share a program; those of
PPO run one after another.

Settings of evolution strategies are given, or were searched on these tasks: the last table of each
says which, and what searches cost. They train on the return less the alive penalty a step that it
names. PPO trains on the plain return, and nothing of it was searched: it has the settings of Brax's
notebook, made for 2 M steps on inverted_pendulum, 20 M on inverted_double_pendulum and 50 M on
others; of hopper and walker2d it has none: they have those of ant with half the environments and
half the batch. Its network is Brax's, four layers of 32.

Bootstrap intervals of five seeds never leave the range of the runs, and are narrow: a probability
of 1 says that each run of the one ended above each of the other.
"""


def returns_table(task: str, rows: Mapping[str, Row], is_whole: bool) -> str:
    """A line an algorithm, and one of the zero policy; whether PPO is whole is remarked."""
    threshold = f"{TASKS[task].threshold:,}"
    head = ["algorithm", *(f"{mark // 10**6} M" for mark in MARKS), "end", "distance", "length"]
    head += [f"M steps to {threshold}", f"seconds to {threshold}", "seconds", "seeds", "remarks"]
    zero = zero_policy(rows.values())
    stood = str(zero) if rows else NOT_RUN
    lines = [["zero policy", *[NOTHING] * len(MARKS), stood, *[NOTHING] * 7]]
    for name in dict.fromkeys(("ppo", *SETTINGS[task], *rows)):
        if name not in rows:
            lines.append([name, *[NOT_RUN] * (len(head) - 2), ""])
            continue
        row = rows[name]
        lines.append([name, *(_at(row, mark) for mark in MARKS), str(end(row)), str(distance(row))])
        lines[-1].append(mean_of(seed["final"]["episode_length"] for seed in row["seeds"]))
        reached = [seed["reached"] for seed in row["seeds"]]
        lines[-1] += [_reached(reached, *unit) for unit in (("steps", 1e6), ("seconds", 1))]
        lines[-1].append(mean_of(seed["seconds"] for seed in row["seeds"]))
        said = remarks(row, zero) + ["not shown to be whole"] * (name == "ppo" and not is_whole)
        lines[-1] += [str(len(row["seeds"])), "; ".join(said)]
    return table(head, lines)


def mean_of(values: Iterable[float | None]) -> str:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return number(mean(known)) if known else NOTHING


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
    """That a policy stands still or goes back, is no better than the zero policy, had not the
    budget of its task, or that seeds diverged."""
    found, finals = [], [seed["final"] for seed in row["seeds"]]
    steps = row["protocol"]["steps"]
    if steps != TASKS[row["task"]].steps:
        found.append(f"a budget of {steps / 1e6:g} M steps")
    if diverged := num_diverged(row):
        found.append(f"{diverged} diverged, so that there is no interval")
    elif not end(row).is_above(zero):
        found.append("not above the zero policy")
    distances = [final["measures"].get("distance") for final in finals]
    still = sum(x is not None and x < STILL for x in distances)
    if still:
        found.append(f"{still} of {len(finals)} do not move on")
    return found


def num_diverged(row: Row) -> int:
    """How many seeds did at their ends."""
    return int(sum(score == -math.inf for score in returns_of(row)))


def _at(row: Row, mark: int) -> str:
    if mark > row["protocol"]["steps"]:
        return NOT_RUN
    seeds = [seed["at"].get(str(mark)) for seed in row["seeds"]]
    if None in seeds:
        return "no test yet"
    if diverged := sum(seed["return"] is None for seed in seeds):
        return f"{diverged} diverged"
    found = str(Interval.of(seed["return"] for seed in seeds))
    distances = [seed["distance"] for seed in seeds]
    return found if None in distances else f"{found}, {Interval.of(distances).middle:.1f} m"


def _reached(seeds: Sequence[Mapping[str, float] | None], what: str, unit: float) -> str:
    """Of all seeds; or how many of them there are."""
    known = [seed[what] / unit for seed in seeds if seed is not None]
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
    """Who is ahead of whom, where intervals are apart; what has none is not compared."""
    if any(len(row["seeds"]) < FEWEST for row in rows.values()):
        return f"Of fewer than {FEWEST} seeds nothing is said to be ahead.\n"
    ends = {name: end(row) for name, row in rows.items() if not num_diverged(row)}
    if len(ends) < 2:
        return ""
    best = max(ends, key=lambda name: ends[name].middle)
    behind = [name for name in ends if ends[best].is_above(ends[name])]
    level = [name for name in ends if name != best and name not in behind]
    said = [f"At the end {best} is ahead of {', '.join(behind)}."] if behind else []
    if level:
        others = ", ".join(level)
        said.append(f"As they are printed, the intervals of {best} and of {others} are not apart.")
    if others := [name for name in rows if name not in ends]:
        said.append(f"Not compared, since seeds diverged: {', '.join(others)}.")
    return f"{' '.join(said)}\n"


def settings_table(task: str, rows: Mapping[str, Row], searches: Sequence[Row]) -> str:
    """What each was run with, and how that was found, by the searches on all tasks."""
    head = [
        "algorithm",
        "policy",
        "population",
        "settings",
        "chosen from",
        "seconds of all, compilation",
        "on",
    ]
    lines = []
    for name, row in rows.items():
        settings = row["settings"]
        mine = [search for search in searches if search["algorithm"] == name]
        numbers = settings["numbers"] | {"alive_penalty": settings["problem"].get("alive_penalty")}
        told = [
            f"{x} {y:g}" if type(y) in (int, float) else f"{x} {y}"
            for x, y in numbers.items()
            if type(y) in (int, float, str) and x not in ("chunk_size", "source")
        ]
        policy, hidden = settings["policy"], settings["policy"].get("hidden")
        about = row["versions"] | {"commit": row["commit"]}
        lines.append(
            [
                name,
                policy["name"] + (f" {tuple(hidden)}" if hidden is not None else ""),
                str(settings["population_size"] or NOTHING),
                ", ".join(told),
                settings["numbers"].get("source") or found_by(settings, task, mine),
                f"{row['seconds']:,.0f}, {row['compile_seconds']:,.0f}",
                ", ".join([place(row["machine"]), *(f"{x} {y}" for x, y in about.items())]),
            ]
        )
    return table(head, lines)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """As Markdown has it."""
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |\n"  # noqa: E731
    return line(head) + line(["---"] * len(head)) + "".join(map(line, lines))
