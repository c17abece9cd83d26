"""The directory of a sweep.

run.json, config.yaml, lock   as in a run's directory
trials/0000/ ...              each a run's directory: it can be resumed, evaluated and plotted alone
batches/0/ ...                checkpoints of the trials that run at once, from which a sweep goes on
batches/sizes.json            how many trials of each program these are
results.csv, results.parquet  one row a trial
best.yaml                     the config of the best configuration, where there is a config
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jaxes.core import TrainState
from jaxes.sweeps.batches import Batch, Group
from jaxes.sweeps.results import Result, Trial, flat, is_finite, standing, write_tables
from jaxes.training.display import number
from jaxes.training.metrics import JsonLines, Row, read_rows
from jaxes.training.run_dir import RUN_FILES, identity_of, open_run_dir, write_whole

FILES = (*RUN_FILES, "trials", "batches", "results.csv", "results.parquet", "best.yaml")


class _Record:
    """What is known of a trial so far."""

    def __init__(self, trial: Trial, path: Path | None):
        self.trial = trial
        self.path = path
        self.sink: JsonLines | None = None
        self.tests: list[Row] = []
        self.env_steps = self.diverged = 0
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
        self.blind = not is_finite(rows[-1]["fitness/mean"])


class SweepDir:
    """What a sweep leaves; nothing on disk where `path` is None."""

    def __init__(self, path: Path | None):
        self.path = path
        self._records: list[_Record] = []
        self._batches: dict[int, Any] = {}

    @contextlib.contextmanager
    def opened(
        self,
        groups: Sequence[Group],
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
                stack.enter_context(open_run_dir(self.path, identity, resume, config, FILES))
            for group, trial in trials:
                path = None
                if self.path is not None:
                    path = self.path / "trials" / f"{trial.number:04d}"
                    identity = _identity(group, trial)
                    with open_run_dir(path, identity, True, trial.config):
                        pass
                self._records.append(_Record(trial, path))
            stack.callback(self._close)
            yield

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

    def restore(self, number: int, batch: Batch) -> None:
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

    def save(self, number: int, batch: Batch) -> None:
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
        return score if is_finite(score) else -math.inf

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
        best = max(filter(is_finite, tests), default=math.nan)
        status = record.status
        if record.blind or not is_finite(tested["return_mean"]):
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
        write_tables(self.path, self.results())
        best = self._best()
        if best is not None and best.config is not None:
            text = yaml.safe_dump(dict(best.config), sort_keys=False)
            write_whole(self.path / "best.yaml", text)

    def _best(self) -> Trial | None:
        """The first trial of the configuration that stands first; None where all diverged."""
        if all(result.status == "diverged" for result in self.results()):
            return None
        trials: dict[str, Trial] = {}
        rows: dict[str, list[dict[str, Any]]] = {}
        for record in self._records:
            assert record.result is not None
            trials.setdefault(record.trial.configuration, record.trial)
            rows.setdefault(record.trial.configuration, []).append(flat(record.result))
        return trials[min(rows, key=lambda name: standing(rows[name]))]


def _identity(group: Group, trial: Trial) -> dict[str, Any]:
    """What the trial's directory is for: the run that it would be alone."""
    return identity_of(
        group.problem._replace(hparams=trial.hparams.problem),
        group.strategy._replace(hparams=trial.hparams.strategy),
        trial.seed,
        trial.config,
    )
