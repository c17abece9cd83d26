"""The run directory: who may use it, what a run leaves in it, and where a resumed run goes on.

run.json       what the run is: seed, sizes, hyperparameters, config; never changed
config.yaml    the resolved config, where there is one
metrics.jsonl  one object a generation
checkpoints/   one directory a saved generation
lock           held by the process that runs it
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

from jaxes.core import Problem, Strategy, TrainState
from jaxes.training.metrics import LoggerName, Row, Sink, open_sinks, read_rows

RUN_FILES = ("run.json", "config.yaml", "metrics.jsonl", "checkpoints")


class Record:
    """What a run leaves in its directory, or nothing where it has none."""

    def __init__(self, directory: Path | None = None, loggers: tuple[LoggerName, ...] = ()):
        self.directory = directory
        self.env_steps = 0
        self._loggers = loggers
        self._rows: list[Row] = []  # of earlier processes of this run
        self._sinks: list[Sink] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Record":
        from jaxes.training.checkpoint import Checkpoints

        assert self.directory is not None
        self._checkpoints = Checkpoints(self.directory / "checkpoints")
        self._stack.callback(self._checkpoints.close)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def restore(self, state: TrainState) -> TrainState:
        """The latest checkpoint's state, or this one where there is none; opens the metrics."""
        if self.directory is None:
            return state
        if (latest := self._checkpoints.latest()) is not None:
            state = self._checkpoints.restore(latest, state)
        done = int(state.generation)
        rows, _ = read_rows(self.directory / "metrics.jsonl")
        self._rows = [row for row in rows if row["generation"] <= done]
        self.env_steps = sum(row.get("rollout/env_steps", 0) for row in self._rows)
        for sink in open_sinks(self.directory, self._loggers):
            self._sinks.append(sink)
            self._stack.callback(sink.close)
        return state

    def row_at(self, generation: int) -> Row:
        """The row that an earlier process wrote of this generation, or an empty one."""
        return next((row for row in self._rows if row["generation"] == generation), {})

    def write(self, rows: list[Row]) -> None:
        self.env_steps += sum(row.get("rollout/env_steps", 0) for row in rows)
        for sink in self._sinks:
            sink.write(rows)

    def save(self, generation: int, state: TrainState) -> None:
        if self.directory is not None:
            self._checkpoints.save(generation, state)


def identity_of(problem: Problem, strategy: Strategy, seed: int, config: Mapping | None) -> dict:
    """What must be the same when a run is resumed, as plain data."""
    sections = {} if config is None else dict(config)
    sections.pop("training", None)
    identity = {
        "seed": seed,
        "population_size": strategy.population_size,
        "strategy": strategy.hparams._asdict(),
        "problem": problem.hparams._asdict(),
        "config": sections,
    }
    return json.loads(json.dumps(identity, default=lambda number: np.asarray(number).tolist()))


@contextlib.contextmanager
def open_run_dir(
    run_dir: Path,
    identity: dict,
    resume: bool,
    config: Mapping | None,
    files: tuple[str, ...] = RUN_FILES,
) -> Iterator[Path]:
    """Claims the directory for this process, and the run in it for this identity.

    A new run is refused where any of `files` exists.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir: {run_dir} is not a directory")
    if any(character in str(run_dir.resolve()) for character in "*?[]"):
        # Orbax globs in the path and loses a checkpoint's data without an error.
        raise ValueError(f"run_dir must be a path without *, ?, [ and ], got {str(run_dir)!r}")
    run_dir.mkdir(parents=True, exist_ok=True)
    for path in (run_dir, *(run_dir / name for name in files)):
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"run_dir: {path} is not writable")
    with (run_dir / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"run_dir: {run_dir} is in use by another process") from error
        found = [name for name in files if (run_dir / name).exists()]
        if found and not resume:
            raise ValueError(
                f"run_dir: {run_dir} already holds a run ({found[0]} exists already); resume it or "
                "choose another directory"
            )
        about = run_dir / "run.json"
        if about.exists():
            try:
                saved = dict(json.loads(about.read_text())["identity"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"run_dir: {about} is damaged: {error!r}") from error
            for name, value in identity.items():
                if saved.get(name) != value:
                    raise ValueError(
                        f"{name}: the run in {run_dir} has {saved.get(name)}, got {value}"
                    )
        else:
            if config is not None:
                write_whole(run_dir / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            devices = ", ".join(device.device_kind for device in jax.local_devices())
            run = {
                "id": secrets.token_hex(8),
                "identity": identity,
                "jax": jax.__version__,
                "devices": devices,
            }
            write_whole(about, json.dumps(run, indent=1))
        yield run_dir


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)
