"""Sweeps: many runs, (hyperparameters × seeds), as one program.

Trials differ in traced numbers and in their seed. Those that share everything else are a group;
a group is one compiled program, in which all episodes of all trials share one queue (see
`jaxes.trials`). A group that does not fit into memory is cut into equal batches.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxes import core
from jaxes.checks import check, check_count, check_number, check_seed, near
from jaxes.core import Problem, Strategy, TrainHParams, TrainState
from jaxes.sweeps.batches import MEMORY_SHARE, Group, Plan, describe, free_bytes, make_plan
from jaxes.sweeps.directory import SweepDir
from jaxes.sweeps.halving import Halving, check_halving, drop
from jaxes.sweeps.results import Result, Trial
from jaxes.sweeps.runner import Runner
from jaxes.training.display import say
from jaxes.training.interrupt import Interrupt
from jaxes.training.program import summarize
from jaxes.training.schedule import Schedule
from jaxes.trials import of_trial


class SweepResult(NamedTuple):
    """What a sweep came to.

    Attributes:
      results: one a trial, in the order of trials.
      states: the final states of each group, with the leading axis trial.
      run_dir: where everything lies, if anywhere.
      seconds: wall-clock, compilation included.
      compile_seconds: the part of it that tracing and compiling took.
    """

    results: list[Result]
    states: list[TrainState]
    run_dir: Path | None
    seconds: float
    compile_seconds: float


HParamsGrid = Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]]


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
    halving: Halving | None = None,
    exact: bool = True,
    max_bytes: int | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Trains (hyperparameters × seeds) in one compiled program.

    Trial by trial the results are those of `jaxes.train` with these hyperparameters and that seed.

    Args:
      problem: what is maximized.
      strategy: what searches.
      hparams: values of traced numbers of the strategy or the problem: `{"sigma": [0.1, 0.3],
        "alive_penalty": [0, 1]}` for all combinations, or a list of `{"sigma": 0.1}` for these.
        A name that both have is written `strategy.name` or `problem.name`.
      num_generations: of each trial.
      num_seeds: runs of each configuration, with the seeds from `seed` on.
      seed: the first one.
      run_dir: gets `results.csv`, `results.parquet` and a run directory for each trial.
      resume: go on with the sweep in `run_dir`.
      checkpoint_every: generations between checkpoints.
      test_every: generations between tests of the mean policy.
      target_return: a trial whose test reaches it ends, and leaves its lanes to the others.
      halving: drops the worst trials on the way.
      exact: on CPU each trial has the bits of its run alone, because trials ask and tell one after
        another (values of a plain function are batched all the same). False batches these as well:
        faster for many small searches, and last bits differ.
      max_bytes: of all trials that run at once; by default three quarters of the free memory.
      console: where progress is shown; None is silent.

    Raises:
      ValueError: an unknown name, a value that is no finite number (ranges are not checked), or a
        `run_dir` that holds something else; before anything is compiled.

    Example:
      >>> result = jaxes.sweep(
      ...     problem, jaxes.cem(64), {"sigma": [0.1, 0.3, 1.0]}, num_seeds=5, num_generations=100
      ... )
      >>> max(result.results, key=lambda trial: trial.return_mean).values
    """
    core.check_parts(strategy, problem)
    check_count("num_seeds", num_seeds)
    check_seed("seed", seed)
    check_seed("seed + num_seeds - 1", seed + num_seeds - 1)
    trials: list[Trial] = []
    for given in combinations(hparams):
        traced = with_values(strategy, problem, given)
        values = {name: np.asarray(value).item() for name, value in given.items()}
        for trial_seed in range(seed, seed + num_seeds):
            trials.append(Trial(len(trials), trial_seed, values, traced))
    return run_sweep(
        [Group(problem, strategy, tuple(trials))],
        Schedule(num_generations, checkpoint_every, test_every, target_return),
        halving=halving,
        exact=exact,
        max_bytes=max_bytes,
        run_dir=run_dir,
        resume=resume,
        console=console,
    )


def combinations(hparams: HParamsGrid | None) -> list[Mapping[str, float]]:
    """The configurations that `hparams` of `sweep` describes."""
    if hparams is None:
        return [{}]
    if not isinstance(hparams, Mapping):
        ok = isinstance(hparams, Sequence) and len(hparams) > 0
        ok = ok and all(isinstance(row, Mapping) for row in hparams)
        check("hparams", hparams, ok, "lists by name, or a list of at least one {name: value}")
        once = all(row not in hparams[:i] for i, row in enumerate(hparams))
        check("hparams", hparams, once, "without repetitions")
        return list(hparams)
    for name, values in hparams.items():
        many = isinstance(values, Sequence | np.ndarray | jax.Array) and not isinstance(values, str)
        check(f"hparams[{name!r}]", values, many and len(values) > 0, "a list of at least one")
        once = len({str(value) for value in values}) == len(values)
        check(f"hparams[{name!r}]", values, once, "without repetitions")
    return [
        dict(zip(hparams, values, strict=True)) for values in itertools.product(*hparams.values())
    ]


def with_values(strategy: Strategy, problem: Problem, values: Mapping[str, float]) -> TrainHParams:
    """The factories' hyperparameters, with these values in place of theirs.

    Raises:
      ValueError: a name that none has, or both have; a value that is no number.
    """
    parts = {"strategy": strategy.hparams, "problem": problem.hparams}
    known = [f"{part}.{field}" for part, of in parts.items() for field in of._fields]
    seen: set[str] = set()
    for name, value in values.items():
        found = [path for path in known if name in (path, path.partition(".")[2])]
        if len(found) != 1:
            names = ", ".join(found or known)
            raise ValueError(f"hparams: {name!r} must be one of {names}{near(name, known)}")
        check_number(f"hparams[{name!r}]", value)
        check(f"hparams[{name!r}]", values, found[0] not in seen, "given once")
        seen.add(found[0])
        part, _, field = found[0].partition(".")
        parts[part] = parts[part]._replace(**{field: value})
    return TrainHParams(**parts)


def run_sweep(
    groups: Sequence[Group],
    schedule: Schedule,
    *,
    halving: Halving | None = None,
    exact: bool = True,
    max_bytes: int | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    console: Console | None = None,
    config: Mapping[str, Any] | None = None,
    dry_run: bool = False,
) -> SweepResult:
    """Runs the groups of a sweep one after another; see `sweep`.

    Args:
      groups: what runs.
      config: kept as `config.yaml`, for `jaxes resume`.
      dry_run: stop when the plan has been shown.
    """
    started = time.monotonic()
    schedule.check()
    every_trial = [trial for group in groups for trial in group.trials]
    check_halving(halving, every_trial, schedule.num_generations)
    if resume and run_dir is None:
        raise ValueError("resume must be False without a run_dir, got True")
    if max_bytes is not None:
        check_count("max_bytes", max_bytes, most=2**62)
    limit = int(MEMORY_SHARE * free_bytes()) if max_bytes is None else max_bytes

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        directory = SweepDir(None if dry_run or run_dir is None else Path(run_dir))
        settings = {
            "target_return": schedule.target_return,
            "test_every": schedule.test_every,
            "halving": halving and halving._asdict(),
            "exact": exact,
        }
        stack.enter_context(directory.opened(groups, settings, resume, config))
        plans = []
        for group, size in zip(groups, directory.batch_sizes(len(groups)), strict=True):
            plans.append(plan := make_plan(group, exact, limit, size))
            fits = max_bytes is None or size is not None or plan.num_bytes <= max_bytes
            check("max_bytes", max_bytes, fits, f"at least {plan.num_bytes}, which one trial takes")
            say(console, describe(plan, len(plans), len(groups)))
        directory.keep_batch_sizes([plan.batches[0].real.size for plan in plans])
        batches = [(plan, batch) for plan in plans for batch in plan.batches]
        if dry_run:
            return _result(started, plans, directory)
        for number, (_, batch) in enumerate(batches):
            directory.restore(number, batch)
        interrupt.arm()

        rungs = (*(halving.generations if halving else ()), schedule.num_generations)
        for rung, end in enumerate(rungs):
            if halving is not None:
                drop(halving, rung, [batch for _, batch in batches], directory)
            for number, (plan, batch) in enumerate(batches):
                runner = Runner(plan.program, batch, number, directory, interrupt, console)
                runner.run(schedule._replace(num_generations=end))
                if interrupt.requested:
                    saved = f"saved in {run_dir}" if run_dir else "not saved: no run_dir"
                    raise KeyboardInterrupt(f"stopped at generation {batch.generation}, {saved}")
        for plan, batch in batches:
            _, _, test = plan.program(batch.test_keys, batch.state, 0, True, batch.real)
            state = jax.device_get(batch.state)  # at once: rows of arrays on devices are slow
            for i, trial in enumerate(batch.trials):
                if interrupt.requested:
                    raise KeyboardInterrupt("stopped while results were written")
                tested = summarize(of_trial(test, i))
                directory.finish(trial, of_trial(state, i), tested)
        directory.write_results()
        return _result(started, plans, directory)


def _result(started: float, plans: list[Plan], directory: SweepDir) -> SweepResult:
    def states(plan: Plan) -> TrainState:
        whole = [
            jax.tree.map(lambda leaf: leaf[: len(batch.trials)], batch.state)  # noqa: B023
            for batch in plan.batches
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *whole)

    return SweepResult(
        results=directory.results(),
        states=[states(plan) for plan in plans],
        run_dir=directory.path,
        seconds=time.monotonic() - started,
        compile_seconds=sum(
            plan.program.trace_seconds + plan.program.compile_seconds for plan in plans
        ),
    )
