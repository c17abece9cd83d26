"""What a run shows while it goes on: a live bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from jaxes.hosts import repeated, world
from jaxes.terminal import format_number, say
from jaxes.training.loop import Progress

SECONDS_BETWEEN_LINES = 5.0


class Display:
    """Shows the progress of a run alone; `console=None` shows nothing.

    Use it as a context manager around the run.
    """

    def __init__(
        self,
        console: Console | None,
        num_generations: int,
        done: int = 0,
        unit: str = "generation",
    ):
        self._console = console
        self._unit = unit
        self._last_line = 0.0
        self._bar = None
        if console is not None and console.is_terminal:
            self._bar = Bar(
                TextColumn(unit + " {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[text]}"),
                TextColumn("{task.fields[left]}"),
                console=console,
            )
            self._task = self._bar.add_task(
                "", total=num_generations, completed=done, text="", left=""
            )

    def __enter__(self) -> "Display":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        say(self._console, text)

    def update(self, progress: Progress) -> None:
        if progress.first:
            self.say(f"first {self._unit} in {progress.seconds:.1f} s")
            if self._console is not None and "rollout/env_steps" in progress.batch.runs[0].last_row:
                zero = progress.batch.zero_policy()  # what standing still gives
                mean = format_number(zero["return_mean"])
                self.say(f"the zero policy: return {mean}, {describe_tests(zero)}")
            shows = self._console is not None and not self._console.quiet
            if world.joined() and shows and progress.batch.noise is not None:
                self.say(repeated.describe(progress.batch.noise, progress.seconds / progress.count))
        text = _describe(progress)
        if self._bar is not None:
            left = f"{progress.seconds_left:,.0f} s left"
            self._bar.update(self._task, completed=progress.batch.done, text=text, left=left)
        elif progress.tested or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.say(
                f"{self._unit} {progress.batch.done}/{progress.num_generations}  {text}"
                f"  {progress.seconds_left:,.0f} s left"
            )


def _describe(progress: Progress) -> str:
    """The last row of a run, and its last test."""
    (run,) = progress.batch.runs
    row = run.last_row
    tested = run.tests[-1]["test/return_mean"] if run.tests else None
    shown = "-" if tested is None else format_number(tested)
    if run.tests and run.tests[-1]["test/diverged"]:
        shown += f" ({run.tests[-1]['test/diverged']} DIVERGED)"
    if run.tests and "test/worst_task" in run.tests[-1]:
        shown += f" (worst task {format_number(run.tests[-1]['test/worst_task'])})"
    if "fitness/mean" not in row:  # of a planner: what it did, and what it had thought
        text = (
            f"return {format_number(row['return/mean'])} (best plan "
            f"{format_number(row['plan/best'])})  in tests {shown}"
        )
        if "plan/seconds" in row:
            text += f"  {row['plan/seconds'] * 1000:.3g} ms a step"
        if "model/loss" in row:
            text += f"  loss of the model {format_number(row['model/loss'])}"
        return text
    text = (
        f"fitness {format_number(row['fitness/mean'])} (best {format_number(row['fitness/max'])})"
        f"  return of the mean {shown}"
    )
    if math.isnan(row["fitness/mean"]):
        text = "NO MEMBER HAS A FINITE FITNESS  " + text
    if "rollout/env_steps" in row:
        text += f"  {row['rollout/env_steps'] / row['time/seconds']:,.0f} steps/s"
    return text


def describe_names(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """A line a name of what tests came to that are told apart: see `RunResult.tests`."""
    lines = []
    for name, said in tests.items():
        line = f"{name}: return {format_number(said['return_mean'])}"
        if math.isfinite(said["return_ci95"]):  # or it is of one episode
            line += f" ± {format_number(said['return_ci95'])} (95 %)"
        if said["num_test_diverged"]:
            line += f"; {said['num_test_diverged']} DIVERGED"
        lines.append(line)
    return "\n".join(lines)


def describe_tests(tested: Mapping[str, Any]) -> str:
    """What is told of an episode beside its return: its length, and what was measured."""
    said = [f"{format_number(tested['episode_length'])} steps"]
    for name, value in tested["measures"].items():
        if name == "alive_share" and math.isfinite(value):
            said.append(f"{value:.0%} of it for being alive")
        elif not name.startswith("alive_"):
            said.append(f"{name} {format_number(value)}")
    if tested["num_test_truncated"]:
        said.append(f"{tested['num_test_truncated']} cut at their bound")
    return ", ".join(said)
