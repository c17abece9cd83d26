"""Sweeps: many runs, (hyperparameters × seeds), as one program.

Trials differ in traced numbers and in their seed. Those that share everything else are a group;
a group is one compiled program, in which all episodes of all trials share one queue (see
`jaxes.trials`). A group that does not fit into memory is cut into equal batches.

The directory of a sweep:

run.json, config.yaml, lock   as in a run's directory
trials/0000/ ...              each a run's directory: it can be resumed, evaluated and plotted alone
batches/0/ ...                checkpoints of the trials that run at once, from which a sweep goes on
batches/sizes.json            how many trials of each program these are
results.csv, results.parquet  one row a trial
best.yaml                     the config of the best configuration, where there is a config
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxes import core, parallel
from jaxes.checks import check_count, check_seed
from jaxes.core import Problem, Strategy, TrainHParams, TrainState
from jaxes.hosts import agree, leaving, world
from jaxes.sweeps.display import SweepDisplay
from jaxes.sweeps.grid import HParamsGrid, check_ranges, combinations, replaced
from jaxes.sweeps.halving import Halving, check_halving, survivors
from jaxes.sweeps.plan import Group, Plan, check_directories, make_directories, make_plans
from jaxes.sweeps.table import best_of, flat, write_tables
from jaxes.training.batch import Batch
from jaxes.training.directory import RUN_FILES, open_run_dir
from jaxes.training.identity import config_of, note_end, noting_the_end, warn_of_other_devices
from jaxes.training.loop import Callback, Loop
from jaxes.training.run import Run, RunResult, Trial
from jaxes.training.schedule import Keep, Schedule
from jaxes.training.shell import check_shell, shown
from jaxes.training.start import said_of, start_and_name

FILES = (*RUN_FILES, "trials", "batches", "results.csv", "results.parquet", "best.yaml")


class SweepResult(NamedTuple):
    """What a sweep came to.

    Attributes:
      results: a `RunResult` a trial, in the order of trials.
      states: the final states of each group, with the leading axis trial.
      run_dir: where everything lies, if anywhere.
      seconds: wall-clock, compilation included.
      compile_seconds: the part of it that tracing and compiling took.
    """

    results: list[RunResult]
    states: list[TrainState]
    run_dir: Path | None
    seconds: float
    compile_seconds: float

    @property
    def best(self) -> RunResult | None:
        """Of the configuration that ranks first, as in the tables, the run with the greatest score;
        None where all runs diverged."""
        return best_of(self.results)


def sweep(
    problem: Problem,
    strategy: Strategy,
    hparams: HParamsGrid | None = None,
    *,
    num_generations: int,
    num_seeds: int = 1,
    seed: int = 0,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int = 50,
    test_every: int = 10,
    target_return: float | None = None,
    keep_checkpoints: Keep = "best",
    mean: Any | str | None = None,
    halving: Halving | None = None,
    exact: bool = True,
    max_bytes: int | None = None,
    callback: Callback | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Trains (hyperparameters × seeds) in one compiled program.

    Trial by trial the results are those of `jaxes.train` with these hyperparameters and that seed.

    Args:
      problem: what is maximized.
      strategy: what searches.
      hparams: values of traced numbers of the strategy or the problem: `{"sigma": [0.1, 0.3],
        "alive_penalty": [0, 1]}` for all combinations, or a list of `{"sigma": 0.1}` for these
        alone. A name that both have is written `strategy.name` or `problem.name`.
      num_generations: of each trial.
      num_seeds: runs of each configuration, with the seeds from `seed` on.
      seed: the first one.
      run_dir: gets `results.csv`, `results.parquet` and a run directory for each trial.
      resume: go on with the sweep in `run_dir`.
      checkpoint_every: generations between checkpoints.
      keep_checkpoints: which of those stay from which the sweep goes on: `all`, or the last so
        many; `best` keeps the last two. A trial's final state stays in its own directory.
      test_every: generations between tests of the mean policy.
      target_return: a trial whose test reaches it ends, and leaves its lanes to the others.
      mean: where each trial starts instead; see `jaxes.train`.
      halving: drops the worst trials on the way.
      exact: on CPU each trial has the bits of its run alone, because trials ask and tell one after
        another (values of a plain function are batched all the same). False batches these as well:
        faster for many small searches, and last bits differ.
      max_bytes: of all trials that run at once; by default three quarters of the free memory.
      callback: that of `jaxes.train`, called for each trial that goes on, whose place is
        `row["trial"]`; True ends this one, also where the sweep is resumed.
      console: where progress is shown; None is silent.

    Raises:
      ValueError: an unknown name, a value outside its range, or a `run_dir` that holds something
        else; before anything is compiled.

    Example:
      >>> result = jaxes.sweep(
      ...     problem, jaxes.cem(64), {"sigma": [0.1, 0.3, 1.0]}, num_seeds=5, num_generations=100
      ... )
      >>> result.best.values
    """
    core.check_parts(strategy, problem)
    check_count("num_seeds", num_seeds)
    check_seed("seed", seed)
    check_seed("seed + num_seeds - 1", seed + num_seeds - 1)
    schedule = Schedule(
        num_generations, checkpoint_every, test_every, target_return, keep_checkpoints
    )
    trials: list[Trial] = []
    for given in combinations(hparams):
        traced = replaced(TrainHParams(strategy.hparams, problem.hparams), given)
        check_ranges(strategy, traced)
        values = {name: np.asarray(value).item() for name, value in given.items()}
        for trial_seed in range(seed, seed + num_seeds):
            training = schedule._asdict() | {
                "seed": trial_seed,
                "loggers": (),
                "mean": said_of(mean),
            }
            config = config_of(problem, strategy, traced, training)
            trials.append(Trial(len(trials), trial_seed, values, traced, config))
    return run_sweep(
        [Group(problem, strategy, tuple(trials))],
        schedule,
        mean=mean,
        halving=halving,
        exact=exact,
        max_bytes=max_bytes,
        run_dir=run_dir,
        resume=resume,
        callback=callback,
        console=console,
    )


@leaving.together()
def run_sweep(
    groups: Sequence[Group],
    schedule: Schedule,
    *,
    mean: Any | str | None = None,
    halving: Halving | None = None,
    exact: bool = True,
    max_bytes: int | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    callback: Callback | None = None,
    console: Console | None = None,
    config: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> SweepResult:
    """Runs the groups of a sweep one after another; see `sweep`.

    Args:
      groups: what runs.
      mean: where it starts; see `jaxes.train`.
      config: kept as `config.yaml`, for `jaxes resume`.
      dry_run: stop when the plan has been shown.
    """
    started = time.monotonic()
    schedule.check()
    trials = sorted((t for group in groups for t in group.trials), key=lambda trial: trial.index)
    check_halving(halving, len({t.configuration_key for t in trials}), schedule.num_generations)
    if max_bytes is not None:
        check_count("max_bytes", max_bytes, maximum=2**62)
    check_shell(run_dir, resume, callback, console)
    path = None if dry_run or run_dir is None or not world.is_first() else Path(run_dir)
    console = shown(console)
    start, about = start_and_name(mean, [g.problem for g in groups], path if resume else None)
    if start is not None:
        groups = [group._replace(problem=start.begun(group.problem)) for group in groups]
    settings = {
        "sweep": [[trial.seed, trial.values] for trial in trials],
        "target_return": schedule.target_return,
        "test_every": schedule.test_every,
        "halving": halving and halving._asdict(),
        "exact": exact,
    }
    identity = json.loads(json.dumps(settings, default=float)) | about
    asked = {"resume": resume, "max_bytes": max_bytes, "dry_run": dry_run}
    agree.check_same("sweep", identity | {"schedule": schedule._asdict()} | asked)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.disable_jit(False))  # as in `train`
        if path is not None:
            claim = stack.enter_context(open_run_dir(path, identity, resume, config, FILES))
            check_directories(path, groups, about)
        loop = stack.enter_context(Loop(path, callback))
        plans = make_plans(groups, exact, max_bytes, path, console)
        batches = [batch for plan in plans for batch in plan.batches]
        for batch in batches:
            batch.load()
        check_tests(halving, [run for batch in batches for run in batch.runs])
        if path is not None:
            if start is not None:
                start.save(path)  # first: who resumes the sweep looks for it
            claim()
            stack.enter_context(noting_the_end(path))
            make_directories(path, plans, start, about)
            warn_of_other_devices(path)
        results: list[RunResult] = []
        if not dry_run:
            results = _run_batches(loop, console, batches, schedule, halving)
            if path is not None:
                for result in results:
                    assert result.run_dir is not None
                    note_end(result.run_dir, **result.end())
                write_tables(path, [flat(result) for result in results])
        return SweepResult(
            results=results,
            states=[_states(plan) for plan in plans],
            run_dir=path,
            seconds=time.monotonic() - started,
            compile_seconds=sum(plan.compile_seconds for plan in plans),
        )


def _run_batches(
    loop: Loop,
    console: Console | None,
    batches: Sequence[Batch],
    schedule: Schedule,
    halving: Halving | None,
) -> list[RunResult]:
    """All batches to their ends, and what their trials came to, in the order of trials."""
    with contextlib.ExitStack() as stack:
        for batch in batches:
            stack.callback(batch.close)
            batch.open()
        display = SweepDisplay([run for batch in batches for run in batch.runs], console)
        for end in drop_and_go_on(halving, schedule.num_generations, batches):
            for batch in batches:
                loop.drive(batch, schedule._replace(num_generations=end), display)
        results = []
        for batch in batches:
            for result in batch.results():
                results.append(result)
                loop.stop_if_requested(batch.done)
    return sorted(results, key=lambda result: result.trial)


def check_tests(halving: Halving | None, runs: Sequence[Run]) -> None:
    """Raises a ValueError where rows are lost by which halving decides."""
    for run in runs:
        if halving is not None and run.rows_lost:
            raise ValueError(f"run_dir: {run.rows_lost}, by whose tests halving decides")


def drop_and_go_on(
    halving: Halving | None, num_generations: int, batches: Sequence[Batch]
) -> Iterator[int]:
    """The generations to which batches go on, one after another; before each but the first the
    worst configurations are dropped. All of it follows from the tests, in a resumed sweep too."""
    runs: dict[str, list[Run]] = {}
    for run in (run for batch in batches for run in batch.runs):
        runs.setdefault(run.trial.configuration_key, []).append(run)
    left = list(runs)
    if halving is not None:
        for rung in halving.generations:
            yield rung
            scores = {key: [run.score(rung) for run in runs[key]] for key in left}
            left = survivors(scores, halving.keep)
            for batch in batches:
                for i, run in enumerate(batch.runs):
                    if run.trial.configuration_key not in left and batch.active[i]:
                        batch.end(i, "dropped")
    yield num_generations


def _states(plan: Plan) -> TrainState:
    """The final states of a group's trials, without padding."""

    def real(batch: Batch) -> TrainState:
        return jax.tree.map(lambda leaf: leaf[: len(batch.runs)], parallel.local(batch.state))

    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *map(real, plan.batches))
