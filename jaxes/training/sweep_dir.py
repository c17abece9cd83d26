"""The directory of a sweep.

run.json, config.yaml, lock   as in a run's directory
trials/0000/ ...              each a run's directory: it can be resumed, evaluated and plotted alone
batches/0/ ...                checkpoints of the trials that run at once, from which a sweep goes on
batches/sizes.json            how many trials of each program these are
results.csv, results.parquet  one row a trial
best.yaml                     the config of the best configuration, where there is a config
"""

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
import yaml

from jaxes.core import Problem, Strategy, TrainHParams, TrainState
from jaxes.training.display import number
from jaxes.training.metrics import JsonLines, Row, read_rows
from jaxes.training.run_dir import identity_of, open_run_dir, write_whole


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      number: its place in the sweep.
      seed: of all its randomness.
      values: of the fields that are swept, by name.
      hparams: all its traced numbers.
      config: the config of this run alone, where there is one.
    """

    number: int
    seed: int
    values: dict[str, Any]
    hparams: TrainHParams
    config: Mapping[str, Any] | None = None

    @property
    def configuration(self) -> str:
        """What is the same for all seeds of a configuration."""
        return json.dumps(self.values, default=float)


class Result(NamedTuple):
    """What a trial came to.

    Attributes:
      trial: its number.
      seed: of the trial.
      values: of the swept fields.
      status: `done`, `target` (reached), `dropped` (by halving), or `diverged`: the final test has
        no finite value, or no member of the last generation had one.
      generation: generations completed.
      return_mean: return of the mean policy, averaged over fresh test episodes.
      return_std: its standard deviation over these episodes.
      best_return: the greatest mean return of a test on the way.
      env_steps: of training.
      seconds: the trial's share of the time, by its steps.
      diverged: episodes that ended because the physics diverged.
    """

    trial: int
    seed: int
    values: dict[str, Any]
    status: str
    generation: int
    return_mean: float
    return_std: float
    best_return: float
    env_steps: int
    seconds: float
    diverged: int


class _Record:
    """What is known of a trial so far."""

    def __init__(self, trial: Trial, path: Path | None):
        self.trial = trial
        self.path = path
        self.sink: JsonLines | None = None
        self.tests: list[Row] = []
        self.generation = self.env_steps = self.diverged = 0
        self.seconds = 0.0
        self.blind = False  # whether no member of the last generation had a finite fitness
        self.status = "done"
        self.result: Result | None = None

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self.env_steps += row.get("rollout/env_steps", 0)
            self.diverged += row.get("rollout/diverged", 0)
            self.seconds += row["time/seconds"]
            if "test/return_mean" in row:
                self.tests.append(row)
        self.generation = rows[-1]["generation"]
        self.blind = not _finite(rows[-1]["fitness/mean"])


class SweepDir:
    """What a sweep leaves; nothing on disk where `path` is None."""

    def __init__(self, path: Path | None):
        self.path = path
        self._records: list[_Record] = []
        self._batches: dict[int, Any] = {}

    @contextlib.contextmanager
    def opened(
        self,
        groups: Sequence[Any],
        settings: Mapping[str, Any],
        resume: bool,
        config: Mapping[str, Any] | None,
    ) -> Iterator[None]:
        """Claims the directory and makes those of the trials.

        Args:
          groups: with the trials.
          settings: what must be the same when the sweep is resumed: it decides who is out.
          resume: whether the directory may hold this sweep.
          config: kept as `config.yaml`.

        Raises:
          ValueError: it holds something else, or is in use.
        """
        trials = [(group, trial) for group in groups for trial in group.trials]
        trials.sort(key=lambda pair: pair[1].number)
        with contextlib.ExitStack() as stack:
            if self.path is not None:
                about = [[trial.seed, trial.values] for _, trial in trials]
                identity = json.loads(json.dumps({"sweep": about} | dict(settings), default=float))
                stack.enter_context(open_run_dir(self.path, identity, resume, config))
            for group, trial in trials:
                path = None
                if self.path is not None:
                    path = self.path / "trials" / f"{trial.number:04d}"
                    identity = self._identity(group.problem, group.strategy, trial)
                    with open_run_dir(path, identity, True, trial.config):
                        pass
                self._records.append(_Record(trial, path))
            stack.callback(self._close)
            yield

    def _identity(self, problem: Problem, strategy: Strategy, trial: Trial) -> dict:
        return identity_of(
            problem._replace(hparams=trial.hparams.problem),
            strategy._replace(hparams=trial.hparams.strategy),
            trial.seed,
            trial.config,
        )

    def batch_sizes(self, count: int) -> list[int | None]:
        """Those that the sweep began with, which its checkpoints have; None for a new one."""
        path = self.path and self.path / "batches" / "sizes.json"
        return json.loads(path.read_text()) if path and path.exists() else [None] * count

    def keep_batch_sizes(self, sizes: list[int]) -> None:
        if self.path is not None:
            (self.path / "batches").mkdir(exist_ok=True)
            write_whole(self.path / "batches" / "sizes.json", json.dumps(sizes))

    def _close(self) -> None:
        for checkpoints in self._batches.values():
            checkpoints.close()

    def _checkpoints(self, number: int) -> Any:
        from jaxes.training.checkpoint import Checkpoints

        if number not in self._batches:
            assert self.path is not None
            self._batches[number] = Checkpoints(self.path / "batches" / str(number))
        return self._batches[number]

    def restore(self, number: int, batch: Any) -> None:
        """Takes up where the batch was cut; opens its trials' metrics."""
        if self.path is None:
            return
        checkpoints = self._checkpoints(number)
        if (latest := checkpoints.latest()) is not None:
            batch.state = checkpoints.restore(latest, batch.state)
            batch.generation = latest
        for trial in batch.trials:
            record = self._records[trial.number]
            assert record.path is not None
            rows, _ = read_rows(record.path / "metrics.jsonl")
            rows = [row for row in rows if row["generation"] <= batch.generation]
            if rows:
                record.add(rows)
            record.sink = JsonLines(record.path / "metrics.jsonl")

    def save(self, number: int, batch: Any) -> None:
        if self.path is not None:
            self._checkpoints(number).save(batch.generation, batch.state)

    def write(self, trial: Trial, rows: list[Row]) -> None:
        record = self._records[trial.number]
        record.add(rows)
        if record.sink is not None:
            record.sink.write(rows)

    def tests_of(self, trial: Trial) -> list[Row]:
        return self._records[trial.number].tests

    def score(self, trial: Trial, generation: int) -> float:
        """The mean return of the last test up to a generation; -inf where it is none."""
        tests = [row for row in self.tests_of(trial) if row["generation"] <= generation]
        score = tests[-1]["test/return_mean"] if tests else math.nan
        return score if _finite(score) else -math.inf

    def mark(self, trial: Trial, status: str) -> None:
        """Says why a trial is out."""
        self._records[trial.number].status = status

    def leader(self) -> str:
        """Who is best in the last tests."""
        tested = [record for record in self._records if record.tests]
        best = max(tested, key=lambda record: self.score(record.trial, 2**31))
        values = ", ".join(f"{name}={value}" for name, value in best.trial.values.items())
        score = number(self.score(best.trial, 2**31))
        return f"best return {score} (trial {best.trial.number}{': ' if values else ''}{values})"

    def finish(self, trial: Trial, state: TrainState, tested: dict[str, Any]) -> None:
        """Keeps the trial's final state and result."""
        record = self._records[trial.number]
        tests = [row["test/return_mean"] for row in record.tests]
        best = max(filter(_finite, tests), default=math.nan)
        status = record.status
        if status != "dropped" and (not _finite(tested["return_mean"]) or record.blind):
            status = "diverged"
        record.result = Result(
            trial=trial.number,
            seed=trial.seed,
            values=trial.values,
            status=status,
            generation=int(state.generation),
            return_mean=tested["return_mean"],
            return_std=tested["return_std"],
            best_return=best,
            env_steps=record.env_steps,
            seconds=record.seconds,
            diverged=record.diverged,
        )
        if record.path is not None:
            from jaxes.training.checkpoint import Checkpoints

            checkpoints = Checkpoints(record.path / "checkpoints")
            checkpoints.save(int(state.generation), state)
            checkpoints.close()

    def results(self) -> list[Result]:
        return [record.result for record in self._records if record.result is not None]

    def write_results(self) -> None:
        """The tables, and the best configuration's config."""
        if self.path is None:
            return
        import pyarrow
        import pyarrow.parquet

        rows = [flat(result) for result in self.results()]
        names = sorted(
            dict.fromkeys(name for row in rows for name in row),
            key=lambda name: 0 if name in ("trial", "seed") else 2 if name in Result._fields else 1,
        )
        text = io.StringIO()
        writer = csv.DictWriter(text, names)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / "results.csv", text.getvalue())
        columns = {name: _column([row.get(name) for row in rows]) for name in names}
        whole = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), whole)
        write_whole(self.path / "results.parquet", whole.getvalue())
        best = self.best()
        if best.config is not None:
            text_of_best = yaml.safe_dump(dict(best.config), sort_keys=False)
            write_whole(self.path / "best.yaml", text_of_best)

    def best(self) -> Trial:
        """The first trial of the configuration that stands first."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for record in self._records:
            assert record.result is not None
            rows.setdefault(record.trial.configuration, []).append(flat(record.result))
        best = min(rows, key=lambda name: standing(rows[name]))
        return next(r.trial for r in self._records if r.trial.configuration == best)


def standing(rows: Sequence[Mapping[str, Any]]) -> tuple[bool, float]:
    """What configurations are sorted by, from the rows of their seeds: those that halving dropped
    come last, then the interquartile mean of the returns counts, the greatest first."""
    middle = float(scipy.stats.trim_mean(returns_of(rows), 0.25))
    dropped = any(row["status"] == "dropped" for row in rows)
    return dropped, math.inf if math.isnan(middle) else -middle


def returns_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The final returns [S] of a configuration's seeds; -inf of one that diverged."""
    returns = [-math.inf if row["status"] == "diverged" else row["return_mean"] for row in rows]
    return np.array(returns, float)


def flat(result: Result) -> dict[str, Any]:
    """A row of the table: the swept fields are columns of their own."""
    row = result._asdict()
    values = row.pop("values")
    first = {name: row.pop(name) for name in ("trial", "seed")}
    return first | values | row


def _column(values: list[Any]) -> list[Any]:
    """A column that a table can hold: values of one kind, or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [value if value is None else json.dumps(value) for value in values]


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
