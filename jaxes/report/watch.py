"""What is seen of a run or a sweep by whoever watches it: names and texts, look by look."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from jaxes.files import size_of
from jaxes.report.layout import fitted
from jaxes.report.runs import follow_trials, training_of
from jaxes.report.tables import NOTHING, Column, label, number
from jaxes.sweeps.halving import Halving, survivors
from jaxes.terminal import format_bytes
from jaxes.training.followed import Followed, last_generation
from jaxes.training.identity import read_run
from jaxes.training.metrics import Row

Told = dict[str, str]
MOST_TRIALS = 15  # that are shown one by one


class Look(NamedTuple):
    """What one look found.

    Attributes:
      told: what is said, by name.
      trials: the table of a sweep's trials; empty of a run alone.
      new: whether anything was written since the look before.
      can_go_on: whether it has not come to its end.
    """

    told: Told
    trials: list[Column]
    new: bool
    can_go_on: bool

    def tables(self, width: int) -> list[Table]:
        """Those that there are, for so many characters a line."""
        return [fitted(self.trials, width)] if self.trials else []


class Watched:
    """The directory of a run or a sweep, which is read alone."""

    def __init__(self, path: Path):
        self.path = path
        self._runs: list[Followed] = []

    def look(self) -> Look:
        """What is new in it.

        Raises:
          ValueError: a file is damaged, or of another format.
        """
        first = not self._runs
        if not (self.path / "run.json").exists():
            return Look({"generation": "nothing is written yet"}, [], first, True)
        said = read_run(self.path)
        is_sweep = "sweep" in said["identity"]
        if first:
            self._runs = follow_trials(self.path) if is_sweep else [Followed(self.path)]
        new = sum(run.read() for run in self._runs) > 0
        training = training_of(self.path)
        dropping = said["identity"].get("halving")
        going = going_on(self._runs, training, dropping and Halving(**dropping))
        if is_sweep:
            told = of_sweep(self._runs, training) | {"go on": f"{len(going)} of {len(self._runs)}"}
        else:
            known = said.get("result") or {}
            told = of_run(self._runs[0], training, known.get("zero_policy_return"))
        told |= {"last row": _ago(self._runs), "disk": format_bytes(size_of(self.path))}
        table = table_of(self._runs, training, going) if is_sweep else []
        return Look(told, table, new or first, bool(going))


def of_run(followed: Followed, training: Mapping[str, Any], zero_policy: float | None) -> Told:
    """Where a run is; what is not known is left out.

    Args:
      followed: the run, read.
      training: the section of its config, as far as it is known.
      zero_policy: its return; None where it is not known.
    """
    run, row = followed.run, followed.run.last_row
    unit = "trial" if "plan/best" in row else "generation"
    told = {
        unit: _of(followed.generation, training),
        "return": number(row.get("return/mean", row.get("fitness/mean"))),
        "test": _tested(run.tests),
        "worst task": _worst_task(run.tests),
        "zero policy": number(zero_policy),
        "steps/s": number(_speed(row)),
    }
    return {name: said for name, said in told.items() if said != NOTHING}


def of_sweep(trials: Sequence[Followed], training: Mapping[str, Any]) -> Told:
    """Where a sweep is: how far its trials have come, and which one leads."""
    told = {"generation": _of(max(trial.generation for trial in trials), training)}
    leader = leading(trials)[0].run
    if leader.tests:
        values = label(leader.trial.values)
        told["leader"] = f"trial {leader.trial.index}" + f" ({values})" * bool(values)
        told |= {"test": _tested(leader.tests), "worst task": _worst_task(leader.tests)}
    return {name: said for name, said in told.items() if said != NOTHING}


def leading(trials: Sequence[Followed]) -> list[Followed]:
    """By their last tests, the best one first."""
    return sorted(trials, key=lambda trial: trial.run.score(), reverse=True)


def table_of(
    trials: Sequence[Followed], training: Mapping[str, Any], going: Sequence[Followed]
) -> list[Column]:
    """The trials that lead, with their last tests."""
    shown = leading(trials)[:MOST_TRIALS]

    def state(trial: Followed) -> str:
        status = trial.status(training)
        return "dropped" if status == "unfinished" and trial not in going else status

    worst = [_worst_task(trial.run.tests) for trial in shown]
    return [
        Column("trial", [str(trial.run.trial.index) for trial in shown], "field"),
        Column("configuration", [label(trial.run.trial.values) for trial in shown], "text"),
        Column("seed", [str(trial.run.trial.seed) for trial in shown], "detail"),
        Column("generation", [str(trial.generation) for trial in shown], "result"),
        Column("test", [_tested(trial.run.tests) for trial in shown], "result"),
        *([Column("worst task", worst, "result")] if set(worst) != {NOTHING} else []),
        Column("status", [state(trial) for trial in shown], "text"),
    ]


def going_on(
    trials: Sequence[Followed], training: Mapping[str, Any], halving: Halving | None
) -> list[Followed]:
    """Those that are neither at their end nor dropped by halving, which follows from the tests as
    in the sweep itself."""
    left = left_by(trials, training, halving)
    unended = [trial for trial in trials if trial.ended(training) is None]
    return [trial for trial in unended if trial.run.trial.configuration_key in left]


def left_by(
    trials: Sequence[Followed], training: Mapping[str, Any], halving: Halving | None
) -> list[str]:
    """The configurations that halving has left so far, by their keys."""
    runs: dict[str, list[Followed]] = {}
    for trial in trials:
        runs.setdefault(trial.run.trial.configuration_key, []).append(trial)
    left = list(runs)
    if halving is None:
        return left
    for rung in halving.generations:
        waiting = [trial for key in left for trial in runs[key] if trial.generation < rung]
        if any(trial.ended(training) is None for trial in waiting):
            break
        scores = {key: [trial.run.score(rung) for trial in runs[key]] for key in left}
        left = survivors(scores, halving.keep)
    return left


def _of(generation: int, training: Mapping[str, Any]) -> str:
    end = last_generation(training)
    return f"{generation}" + f"/{end}" * (end is not None)


def _tested(tests: Sequence[Row]) -> str:
    """The last one: its return, half of its interval, and how many episodes diverged."""
    if not tests:
        return NOTHING
    row = tests[-1]
    error, diverged = row.get("test/return_ci95"), row["test/diverged"]
    said = number(row["test/return_mean"]) + (f" ± {number(error)}" if error is not None else "")
    return said + f" ({diverged} DIVERGED)" * bool(diverged)


def _worst_task(tests: Sequence[Row]) -> str:
    """The least of the last one's mean returns by task."""
    return number(tests[-1].get("test/worst_task")) if tests else NOTHING


def _speed(row: Row) -> float | None:
    """Environment steps a second in a generation; None where none are counted."""
    steps, seconds = row.get("rollout/env_steps"), row.get("time/seconds")
    return steps / seconds if steps and seconds else None


def _ago(runs: Sequence[Followed]) -> str:
    written = [(run.path / "metrics.jsonl").stat().st_mtime for run in runs if run.run.last_row]
    return f"{max(time.time() - max(written), 0):,.0f} s ago" if written else "none yet"
