"""Where a run's metrics go: `metrics.jsonl` always, TensorBoard and Weights & Biases if asked."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxes.checks import check, check_package
from jaxes.files import read_json

Row = dict[str, Any]  # one generation: `generation` and numbers by `group/name`
LoggerName = Literal["tensorboard", "wandb"]
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Sink(Protocol):
    """Takes rows in the order of generations."""

    def write(self, rows: list[Row]) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Appends rows to a file, one JSON object a line.

    A resumed run repeats the generations after its checkpoint, with the same numbers: rows that the
    file holds already are kept and their repetition is skipped. A last line cut off by a kill is
    completed by its repetition.
    """

    def __init__(self, path: Path):
        rows, end = read_rows(path)
        self.last_generation = rows[-1]["generation"] if rows else 0
        self._path = path
        with path.open("ab") as file:
            file.truncate(end)

    def write(self, rows: list[Row]) -> None:
        new = [row for row in rows if row["generation"] > self.last_generation]
        # Opened for each chunk alone, since a sweep has more trials than a process has files.
        with self._path.open("r+b") as file:  # which is there, unless it was taken away
            file.seek(0, os.SEEK_END)
            for row in new:
                file.write(json.dumps(finite(row)).encode() + b"\n")
                self.last_generation = row["generation"]

    def close(self) -> None:
        pass


def read_rows(path: Path, start: int = 0) -> tuple[list[Row], int]:
    """The complete rows of a `metrics.jsonl`, and the offset at which they end.

    Args:
      path: the file; one that is not there yet has no rows.
      start: the offset at which others ended; what stands before it is not read again.

    Raises:
      ValueError: a complete line is no row.
    """
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        text = file.read()
    end = text.rfind(b"\n") + 1
    after = f" after byte {start}" * (start > 0)
    rows: list[Row] = []
    for number, line in enumerate(text[:end].splitlines(), start=1):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if is_row(row) and (not rows or row["generation"] > rows[-1]["generation"]):
                rows.append(row)
        if len(rows) < number:
            which = f"line {number}{after}"
            raise ValueError(f"{path}, {which}: no row of a generation that follows")
    return rows, start + end


def is_row(row: Any) -> bool:
    """Whether it is what a run writes of a generation: numbers by name, null where not finite."""
    if not isinstance(row, dict) or type(row.get("generation")) is not int:
        return False
    values = [value for value in row.values() if value is not None]
    numbers = all(isinstance(x, float) or (isinstance(x, int) and abs(x) < 2**63) for x in values)
    return numbers and ("test/return_mean" in row) == ("test/diverged" in row)


def finite(value: Any) -> Any:
    """A row, or what is in it, as JSON has it: null stands for NaN and infinity."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_finite(value: Any) -> bool:
    """Whether it is a finite number; None stands for NaN where a file says null."""
    return value is not None and math.isfinite(value)


class TensorBoard:
    def __init__(self, run_dir: Path):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            for name, value in row.items():
                self._writer.add_scalar(name, value, row["generation"])

    def close(self) -> None:
        self._writer.close()


class WandB:
    def __init__(self, run_dir: Path):
        import wandb

        run_id = read_json(run_dir / "run.json", {"id": str})["id"]
        self._run = wandb.init(
            project="jaxes", id=run_id, dir=str(run_dir), resume="allow", name=run_dir.name
        )

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            self._run.log(row, step=row["generation"])

    def close(self) -> None:
        self._run.finish()


def check_installed(loggers: tuple[LoggerName, ...]) -> None:
    """Raises a ValueError for a logger that is unknown or whose package is missing."""
    check("loggers", loggers, isinstance(loggers, tuple | list), f"of {', '.join(PACKAGES)}")
    for name in loggers:
        if name not in PACKAGES:
            raise ValueError(f"loggers must be of {', '.join(PACKAGES)}, got {name!r}")
        check_package("loggers", name, PACKAGES[name], "pip install it")


def open_sinks(run_dir: Path, loggers: tuple[LoggerName, ...]) -> list[Sink]:
    """The run's `metrics.jsonl` and the loggers that were asked for."""
    kinds: dict[str, Callable[[Path], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}
    return [JsonLines(run_dir / "metrics.jsonl"), *(kinds[name](run_dir) for name in loggers)]
