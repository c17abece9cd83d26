"""What a run shows while it goes on: a live bar on a terminal, plain lines elsewhere."""

import math
import os
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from jaxes.training.metrics import Row

SECONDS_BETWEEN_LINES = 5.0


def number(value: float) -> str:
    """One decimal for scores, significant digits for small values."""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def say(console: Console | None, text: str) -> None:
    """Prints lines as they are: not wrapped, no markup."""
    if console is not None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)


class PatientConsole(Console):
    """A console that falls silent, rather than ends the program, when its reader goes away."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


class Display:
    """Shows progress; `console=None` shows nothing.

    Use it as a context manager around the run.
    """

    def __init__(self, console: Console | None, generation: int, num_generations: int):
        self._console = console
        self._num_generations = num_generations
        self._test_return = "-"
        self._last_line = 0.0
        self._progress = None
        if console is not None and console.is_terminal:
            self._progress = Progress(
                TextColumn("generation {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._progress.add_task(
                "", total=num_generations, completed=generation, text=""
            )

    def __enter__(self) -> "Display":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        say(self._console, text)

    def update(self, rows: list[Row], steps_per_second: float, seconds_left: float) -> None:
        """Shows the last of `rows`."""
        row = rows[-1]
        tested = "test/return_mean" in row
        if tested:
            self._test_return = number(row["test/return_mean"])
        text = (
            f"fitness {number(row['fitness/mean'])} (best {number(row['fitness/max'])})"
            f"  return of the mean {self._test_return}"
        )
        if math.isnan(row["fitness/mean"]):
            text = "NO MEMBER HAS A FINITE FITNESS  " + text
        if "rollout/env_steps" in row:
            text += f"  {steps_per_second:,.0f} steps/s"
        if self._progress is not None:
            self._progress.update(self._task, completed=row["generation"], text=text)
        elif tested or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say(
                f"generation {row['generation']}/{self._num_generations}  {text}"
                f"  {seconds_left:,.0f} s left"
            )
