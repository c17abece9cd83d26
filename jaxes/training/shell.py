"""What is around a run alone, of whatever is trained: its directory, its loop, what is shown."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxes.checks import check, check_path, check_seed
from jaxes.hosts import agree, world
from jaxes.training.batch import Batch
from jaxes.training.directory import open_run_dir
from jaxes.training.display import Display
from jaxes.training.identity import noting_the_end, warn_of_other_devices
from jaxes.training.loop import Callback, Loop
from jaxes.training.metrics import LoggerName, check_installed
from jaxes.training.run import Run, RunResult, Trial
from jaxes.training.schedule import Schedule
from jaxes.training.start import Start


def run_alone(
    make_batch: Callable[[Run, Path | None], Batch],
    trial: Trial,
    identity: dict[str, Any],
    schedule: Schedule,
    *,
    directory: Path | None,
    resume: bool,
    loggers: tuple[LoggerName, ...],
    callback: Callback | None,
    console: Console | None,
    start: Start | None = None,
    unit: str = "generation",
) -> RunResult:
    """A run from its start, or from where it was cut, to its end.

    Args:
      make_batch: `(run, where checkpoints lie) -> batch`, a batch of one.
      trial: what the run is.
      identity: what must be the same when it is resumed; see `identity_of`.
      schedule: when it ends, is tested and is saved.
      directory: gets what it produces; None for none.
      resume: whether the directory may hold it already.
      start: where it began, kept in a new directory.
      unit: what its generations are called.
    """
    console = shown(console)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.disable_jit(False))  # in Python's own loops it would take hours
        if directory is not None:
            claim = stack.enter_context(open_run_dir(directory, identity, resume, trial.config))
        loop = stack.enter_context(Loop(directory, callback))
        run = Run(trial, directory, loggers)
        batch = make_batch(run, directory and directory / "checkpoints")
        stack.callback(batch.close)
        traced = batch.trace()  # what the problem's parts do wrong shows before anything is touched
        batch.load()
        if directory is not None:
            if start is not None:
                start.save(directory)  # first: who resumes the run looks for it
            claim()
            end = stack.enter_context(noting_the_end(directory))
            warn_of_other_devices(directory)
        batch.open()

        last = schedule.num_generations
        display = stack.enter_context(Display(console, last, batch.done, unit))
        if resume and batch.done == 0:
            display.say(f"no checkpoint to go on from: the run starts at its first {unit}")
        display.say("compiling ...")
        display.say(batch.compile(traced).say_seconds())
        if run.status == "stopped":
            display.say("stopped by its callback; to go on, delete its stopped.json")
        elif batch.done >= last:
            display.say(f"all {unit}s are done; to go on, raise num_{unit}s")
        loop.drive(batch, schedule, display)
        result = next(batch.results())
        if directory is not None:
            end |= result.end()
        return result


def shown(console: Console | None) -> Console | None:
    """Where progress is shown: the console of the first process. What is computed for it, all
    processes compute."""
    shows = agree.of_first(lambda: console is not None)
    if world.is_first():
        return console
    return Console(quiet=True, file=io.StringIO()) if shows else None


def check_shell(run_dir: Any, resume: Any, callback: Any, console: Any = None) -> None:
    """Raises a ValueError for an argument around a run, a sweep or a search of another kind."""
    check_path("run_dir", run_dir)
    check("resume", resume, isinstance(resume, bool), "True or False")
    check("resume", resume, not resume or run_dir is not None, "False without a run_dir")
    check("callback", callback, callback is None or callable(callback), "a function or None")
    shows = console is None or isinstance(console, Console)
    check("console", console, shows, "a rich.console.Console or None")


def check_settings(schedule: Schedule, seed: int, loggers: tuple[LoggerName, ...]) -> None:
    """Raises a ValueError for an argument of `train` that is outside its range."""
    schedule.check()
    check_seed("seed", seed)
    check_installed(loggers)
