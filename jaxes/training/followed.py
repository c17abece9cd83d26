"""A run seen from another process: it is read as it grows, and nothing is written or locked."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxes.core import TrainHParams
from jaxes.training.directory import sweep_of
from jaxes.training.metrics import read_rows
from jaxes.training.run import Run, Trial

LOCKS = Path("/proc/locks")


class Followed:
    """A run that takes up what its `metrics.jsonl` has grown by.

    Attributes:
      path: its directory.
      run: what its rows have come to; it has no directory of its own, and so writes nothing.
    """

    def __init__(
        self, path: Path, index: int = 0, seed: int = 0, values: Mapping[str, Any] | None = None
    ):
        self.path = path
        self.run = Run(Trial(index, seed, dict(values or {}), TrainHParams((), ())), None)
        self._end = 0

    def read(self) -> bool:
        """Takes up the rows that were written since; whether there were any. A last line that is
        not whole yet waits for the next look.

        Raises:
          ValueError: a line is damaged.
        """
        rows, self._end = read_rows(self.path / "metrics.jsonl", self._end)
        self.run.write(rows)
        return bool(rows)

    @property
    def generation(self) -> int:
        return self.run.last_row.get("generation", 0)

    def ended(self, training: Mapping[str, Any]) -> str | None:
        """Why it has come to its end: `target`, `stopped` or `done`, as a `RunResult` has it; None
        where it can go on, or where nothing says how far it goes.

        Args:
          training: the section of its config, or as much of it as is known.
        """
        target, end = training.get("target_return"), last_generation(training)
        if self.run.tests and target is not None and self.run.score() >= target:
            return "target"
        if (self.path / "stopped.json").exists():
            return "stopped"
        return "done" if end is not None and self.generation >= end else None

    def status(self, training: Mapping[str, Any]) -> str:
        """The same; `diverged` by the last test; `unfinished` where it can go on, and `-` where
        that is not known."""
        if self.run.tests and self.run.score() == -math.inf:
            return "diverged"
        unknown = "-" if last_generation(training) is None else "unfinished"
        return self.ended(training) or unknown


def last_generation(training: Mapping[str, Any]) -> int | None:
    """That of a run with this section `training`, or its last trial; None where it is not known."""
    return training.get("num_generations", training.get("num_trials"))


def is_running(run_dir: Path) -> bool | None:
    """Whether a process of this machine runs it, alone or as a trial of its sweep; None where the
    platform does not tell.

    The locks that the kernel lists are looked at. To try the lock, even a shared one and for an
    instant, would refuse a run that starts in it. Only inodes are compared, since some file systems
    (btrfs) list other devices than `stat` gives.
    """
    try:
        listed = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return None
    exclusive = [line for line in listed if line[1:4:2] == ["FLOCK", "WRITE"]]
    held = {line[5].rpartition(":")[2] for line in exclusive}
    sweep = sweep_of(run_dir)
    locks = [directory / "lock" for directory in (run_dir, sweep) if directory is not None]
    return any(str(lock.stat().st_ino) in held for lock in locks if lock.exists())
