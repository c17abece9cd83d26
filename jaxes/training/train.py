"""`jaxes.train`: one run from its start, or from where it was cut, to its end."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes import core
from jaxes.core import Problem, Strategy, TrainHParams
from jaxes.hosts import agree, leaving, world
from jaxes.training.batch import Batch
from jaxes.training.identity import config_of, identity_of
from jaxes.training.loop import Callback
from jaxes.training.metrics import LoggerName
from jaxes.training.run import RunResult, Trial
from jaxes.training.schedule import Keep, Schedule
from jaxes.training.shell import check_settings, check_shell, run_alone
from jaxes.training.start import said_of, start_and_name


@leaving.together()
def train(
    problem: Problem,
    strategy: Strategy,
    *,
    num_generations: int,
    seed: int = 0,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int = 50,
    test_every: int = 10,
    target_return: float | None = None,
    keep_checkpoints: Keep = "best",
    mean: Any | str | None = None,
    loggers: tuple[LoggerName, ...] = (),
    callback: Callback | None = None,
    console: Console | None = None,
    config: Mapping[str, Any] | None = None,
) -> RunResult:
    """Trains, and keeps what a run produces in `run_dir`.

    The bits depend on `seed`, `problem` and `strategy` alone: not on when the run was cut,
    checkpointed or tested. All generations and tests are one compiled program.

    Args:
      problem: what is maximized.
      strategy: what searches.
      num_generations: generations of the whole run, at least 1.
      seed: of all randomness.
      run_dir: gets `metrics.jsonl` (one object a generation) and `checkpoints/`; None for none.
      resume: go on from the latest checkpoint in `run_dir`, or from the start if it has none.
      checkpoint_every: generations between checkpoints; the last generation is saved as well.
      test_every: generations between tests of the mean policy on fresh episodes.
      target_return: stop when a test's mean return reaches it, of those that `test_every` asks for.
      keep_checkpoints: `best`: the last two and, of those saved, the one with the best test (each
        is tested); `all`; or a number, the last so many. Others are deleted when a newer one has
        been read back from the disk.
      mean: where the search starts instead: a vector [D], parameters like the policy's, or a run's
        directory, whose latest checkpoint also gives the statistics that observations are
        normalized with. What it was is kept in `run_dir`.
      loggers: of `tensorboard`, `wandb`.
      callback: `(row, state) -> bool | None`, called about once a second, at the end of a chunk of
        generations, with the metrics of its last one and the state then; True ends the run, which a
        resume then leaves as it is, unless its `stopped.json` is deleted.
      console: where progress is shown; None is silent. `rich.console.Console()` is the terminal.
      config: kept as `config.yaml` in a new run, for `jaxes resume`; by default what describes the
        problem, the strategy and these arguments, where a config can.

    After `jaxes.use_hosts` all processes call it alike; the first one alone uses `run_dir`, calls
    `callback` and shows progress.

    Raises:
      ValueError: a value outside its range, a `run_dir` that holds a run already (without `resume`)
        or another one (with it), a missing logger package; before anything is compiled.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when a checkpoint has been saved.

    Example:
      >>> result = jaxes.train(problem, jaxes.cma_es(64), num_generations=100, run_dir="runs/one")
    """
    schedule = Schedule(
        num_generations, checkpoint_every, test_every, target_return, keep_checkpoints
    )
    check_settings(schedule, seed, loggers if world.is_first() else ())
    if loggers and run_dir is None:
        raise ValueError(f"loggers must be empty without a run_dir, got {loggers!r}")
    check_shell(run_dir, resume, callback, console)
    core.check_parts(strategy, problem)
    hparams = TrainHParams(strategy.hparams, problem.hparams)
    if config is None:
        training = schedule._asdict() | {"seed": seed, "loggers": loggers, "mean": said_of(mean)}
        config = config_of(problem, strategy, hparams, training)
    trial = Trial(0, seed, {}, hparams, config)
    directory = None if run_dir is None or not world.is_first() else Path(run_dir)
    start, about = start_and_name(mean, [problem], directory if resume else None)
    begun = problem if start is None else start.begun(problem)
    identity = identity_of(strategy.population_size, trial, problem) | about
    agree.check_same("run", identity | {"schedule": schedule._asdict(), "resume": resume})
    return run_alone(
        lambda run, path: Batch.of_run(run, begun, strategy, path),
        trial,
        identity,
        schedule,
        directory=directory,
        resume=resume,
        start=start,
        loggers=loggers,
        callback=callback,
        console=console,
    )
