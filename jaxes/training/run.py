"""One run, as the process that runs it sees it: what it is, what it wrote, what it came to."""

import dataclasses
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxes.core import AnyTests, TrainHParams, TrainState
from jaxes.files import write_whole
from jaxes.training.metrics import (
    LoggerName,
    Row,
    Sink,
    finite,
    is_finite,
    open_sinks,
    read_rows,
)
from jaxes.training.tested import by_name, row_of, score_of, scored, summarize


class RunResult(NamedTuple):
    """What a run came to, alone or as a trial of a sweep, or what its policy did when tested again.

    Attributes:
      trial: its place in the sweep; 0 of a run alone.
      seed: of all its randomness.
      values: of the swept fields, by name.
      status: `done`, `target` (reached), `stopped` (by the callback), `dropped` (by halving), or
        `diverged`, dropped or not: the score is -inf.
      generation: generations completed.
      score: what trials are ranked by: `return_mean`, but -inf where an episode of the final test
        diverged, or no member of the last generation had a finite fitness.
      return_mean: return of the mean policy, averaged over fresh test episodes, without those that
        diverged: what they got before says nothing. NaN if all did.
      return_std: its standard deviation over these episodes.
      return_ci95: half the width of the mean's 95 % confidence interval; NaN of one episode.
      return_min: the least.
      return_median: the middle one.
      return_max: the greatest.
      episode_length: steps of these episodes, on average.
      measures: means by name of what the environment's `measure` says of them, such as `distance`;
        with `alive_reward`, also `alive_share`, the part of the return that being alive gave.
      tests: where tests are of several kinds or tasks, what these and the others come to by name:
        the fields of this result that are theirs (see `jaxes.training.tested`). The fields
        themselves are of the base systems, all tasks pooled.
      num_test_episodes: the number of test episodes in base systems, of all tasks.
      num_test_diverged: how many of them diverged: a reward, an observation or the return left the
        finite numbers.
      num_test_truncated: how many were cut at their bound while they could have gone on.
      zero_policy_return: mean return of the policy with all parameters zero, likewise: what
        standing still gives.
      population_return: mean return of the last generation's members in their own episodes, NaN
        where there is none: far above `return_mean` if they fit these few alone.
      best_return: the greatest mean return of a test on the way in which no episode diverged; NaN
        where there was none.
      env_steps: environment steps of training since the run began; tests apart.
      num_diverged: episodes of training that ended because the physics diverged.
      seconds: wall-clock since the run began, compilation apart; a trial's share, by its steps.
      compile_seconds: of tracing and compiling its program, in this process.
      state: the final `TrainState`; `state.strategy.mean` holds the answer.
      run_dir: where metrics and checkpoints lie, if anywhere.
    """

    trial: int
    seed: int
    values: dict[str, Any]
    status: str
    generation: int
    score: float
    return_mean: float
    return_std: float
    return_ci95: float
    return_min: float
    return_median: float
    return_max: float
    episode_length: float
    measures: dict[str, float]
    tests: dict[str, dict[str, Any]]
    num_test_episodes: int
    num_test_diverged: int
    num_test_truncated: int
    zero_policy_return: float
    population_return: float
    best_return: float
    env_steps: int
    num_diverged: int
    seconds: float
    compile_seconds: float
    state: TrainState
    run_dir: Path | None

    def end(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {"reason": self.status, "result": finite(self.plain())}

    def plain(self) -> dict[str, Any]:
        """All but the state, as plain data."""
        found = {name: value for name, value in self._asdict().items() if name != "state"}
        return found | {"run_dir": None if self.run_dir is None else str(self.run_dir)}


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a run is before it begins.

    Attributes:
      index: its place in the sweep; 0 of a run alone.
      seed: of all its randomness.
      values: of the swept fields, by name.
      hparams: all its traced numbers.
      config: the config of this run alone, where there is one.
    """

    index: int
    seed: int
    values: dict[str, Any]
    hparams: TrainHParams
    config: Mapping[str, Any] | None = None

    @property
    def configuration_key(self) -> str:
        """What is the same for all seeds of a configuration, as a key of mappings."""
        return configuration_key(self.values)


def configuration_key(values: Mapping[str, Any]) -> str:
    """Of the values of swept fields, by name."""
    return json.dumps(values, default=float)


# Of a run, what follows from what it has written.
REMEMBERED = (
    "status",
    "env_steps",
    "num_diverged",
    "seconds",
    "waited",
    "tests",
    "last_row",
    "rows_lost",
    "stops_at",
    "all_diverged",
)


class Run:
    """A trial under way, and what it leaves in its directory, or nothing where it has none."""

    def __init__(self, trial: Trial, directory: Path | None, loggers: tuple[LoggerName, ...] = ()):
        self.trial = trial
        self.directory = directory
        self.status = "done"
        self.env_steps = self.num_diverged = 0
        self.seconds = self.waited = 0.0  # waited: of them, for other processes
        self.tests: list[Row] = []
        self.last_row: Row = {}
        self.rows_lost = ""  # what is to be said of rows that are missing
        self.stops_at: int | None = None  # where a callback ended it, before it was cut
        self.all_diverged = False  # no member of the last generation had a finite fitness
        self._loggers = loggers
        self._sinks: list[Sink] = []

    def read(self, generation: int) -> None:
        """Takes up what the run has written up to a generation: its rows, and that it was stopped
        there, or is to stop later, since it goes on from before that. Warns of lost rows."""
        if self.directory is None:
            return
        path = self.directory / "metrics.jsonl"
        found, _ = read_rows(path)
        rows = [row for row in found if row["generation"] <= generation]
        for expected, row in enumerate(found[len(rows) :], start=generation + 1):
            if row["generation"] != expected:  # or those that it now writes would be left out
                raise ValueError(f"{path} is damaged: it lacks the row of generation {expected}")
        if len(rows) < generation:
            self.rows_lost = f"{path} lacks {generation - len(rows)} of {generation} rows"
            warnings.warn(f"{self.rows_lost}: counts, times and `best` lack them too", stacklevel=3)
        self._count(rows)
        if self._stopped.exists():
            self.stops_at = self._stopped_at()
            if self.stops_at == generation:
                self.status = "stopped"

    def memory(self) -> dict[str, Any]:
        """What it knows of itself, as plain data, for another process."""
        return {name: getattr(self, name) for name in REMEMBERED}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """What `memory` gave in the process that has read it."""
        for name in REMEMBERED:
            setattr(self, name, memory[name])

    def end(self, status: str) -> None:
        """Says why it goes on no longer. A target reached and trials dropped follow from the tests;
        that a callback stopped it is kept, for whoever resumes it."""
        self.status = status
        if status == "stopped" and self.directory is not None:
            write_whole(self._stopped, json.dumps(self.last_row["generation"]))

    def _stopped_at(self) -> int:
        text = self._stopped.read_text()
        if not text.isdigit():
            raise ValueError(
                f"run_dir: {self._stopped} is damaged: it must hold a generation, got {text!r}; "
                "delete it to go on"
            )
        return int(text)

    @property
    def _stopped(self) -> Path:
        assert self.directory is not None
        return self.directory / "stopped.json"

    def open(self) -> None:
        """Says where rows go from now on."""
        if self.directory is not None:
            self._sinks = open_sinks(self.directory, self._loggers)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def write(self, rows: list[Row]) -> None:
        self._count(rows)
        for sink in self._sinks:
            sink.write(rows)

    def save(self, state: TrainState) -> None:
        """Keeps its final state in a checkpoint of its own, as a run alone has it."""
        if self.directory is not None:
            from jaxes.training.checkpoint import Checkpoints

            checkpoints, generation = (
                Checkpoints(self.directory / "checkpoints"),
                int(state.generation),
            )
            checkpoints.set_aside_if_damaged(generation)
            checkpoints.save(generation, state)
            checkpoints.close()

    def _count(self, rows: list[Row]) -> None:
        for row in rows:
            self.env_steps += round(row.get("rollout/env_steps") or 0)
            self.num_diverged += row.get("rollout/diverged") or 0
            self.seconds += row.get("time/seconds") or 0.0
            self.waited += row.get("time/wait") or 0.0
            self.all_diverged = not is_finite(row.get("fitness/mean", 0.0))
            self.last_row = row
            if "test/return_mean" in row:
                self.tests.append(row)

    def scores(self) -> dict[int, float]:
        """Those of all tests, by generation."""
        return {row["generation"]: score_of(row) for row in self.tests}

    def score(self, generation: int | None = None) -> float:
        """That of the last test, up to a generation; -inf before the first."""
        tests = [row for row in self.tests if generation is None or row["generation"] <= generation]
        return score_of(tests[-1]) if tests else -math.inf

    def result(
        self, state: TrainState, tests: AnyTests, zero_policy: AnyTests, compile_seconds: float = 0
    ) -> RunResult:
        """What it came to, from its last state and tests of it that no decision has seen."""
        tested = summarize(tests)
        score = -math.inf if self.all_diverged else scored(**tested)
        return RunResult(
            trial=self.trial.index,
            seed=self.trial.seed,
            values=self.trial.values,
            status=self.status if math.isfinite(score) else "diverged",
            generation=int(state.generation),
            score=score,
            **tested,
            tests=by_name(tests),
            zero_policy_return=summarize(zero_policy)["return_mean"],
            population_return=_number(self.last_row.get("return/mean")),
            best_return=max(filter(math.isfinite, map(score_of, self.tests)), default=math.nan),
            env_steps=self.env_steps,
            num_diverged=self.num_diverged,
            seconds=self.seconds,
            compile_seconds=compile_seconds,
            state=state,
            run_dir=self.directory,
        )


def make_rows(
    columns: Mapping[str, list], generation: int, seconds: float, tests: AnyTests | None
) -> list[Row]:
    """The rows of the generations after this one, which took these seconds, from the values of each
    metric; the last with the test's result."""
    rows = [
        {"generation": generation + i} | dict(zip(columns, values, strict=True))
        for i, values in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    for row in rows:
        row["time/seconds"] = seconds / len(rows)
    if tests is not None:
        rows[-1] |= row_of(tests)
    return rows


def _number(value: float | None) -> float:
    """NaN where a file says null."""
    return math.nan if value is None else float(value)
