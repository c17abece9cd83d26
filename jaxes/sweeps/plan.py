"""Which trials run at once: as many of a group as memory holds, in batches of one size."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from jaxes import devices
from jaxes.checks import check, check_count
from jaxes.core import Problem, Strategy
from jaxes.files import write_whole
from jaxes.hosts import agree
from jaxes.terminal import say
from jaxes.training.batch import Batch
from jaxes.training.directory import trial_dir
from jaxes.training.identity import check_identity, describe, identity_of
from jaxes.training.run import Run, Trial
from jaxes.training.start import Start

MEMORY_SHARE = 0.75  # of what is free, for the trials that run at once


class Group(NamedTuple):
    """Trials that share all that is static: one compiled program."""

    problem: Problem
    strategy: Strategy
    trials: tuple[Trial, ...]


class Plan(NamedTuple):
    """A group's batches of `size` trials, what compiling their program took, and its bytes."""

    group: Group
    batches: list[Batch]
    size: int
    compile_seconds: float
    num_bytes: int

    def describe(self, number: int, of: int) -> str:
        """Its line of what is shown before a sweep."""
        batches = f" in {len(self.batches)} batches of {self.size}" * (len(self.batches) > 1)
        return (
            f"program {number} of {of}: {len(self.group.trials)} trials{batches}, population "
            f"{self.group.strategy.population_size}, {self.num_bytes / 2**20:,.0f} MiB (compiled "
            f"in {self.compile_seconds:.1f} s)"
        )


def make_plans(
    groups: Sequence[Group],
    exact: bool,
    max_bytes: int | None,
    path: Path | None,
    console: Console | None,
) -> list[Plan]:
    """Compiles the groups' programs. Nothing is written yet: see `make_directories`.

    The sizes of batches are kept, because checkpoints have them: a sweep that goes on has those
    with which it began, whatever memory is free by then.
    """
    limit = max_bytes
    if limit is None:
        limit = agree.of_first(lambda: int(MEMORY_SHARE * devices.free_bytes()))
    kept = None if path is None else path / "batches" / "sizes.json"
    nothing = [None] * len(groups)
    known = agree.of_first(lambda: _sizes(kept, groups) if kept and kept.exists() else nothing)
    plans: list[Plan] = []
    for group, size in zip(groups, known, strict=True):
        plan = make_plan(
            group,
            [Run(trial, path and trial_dir(path, trial.index)) for trial in group.trials],
            exact,
            limit,
            size,
            partial(_checkpoints_of, path, sum(len(plan.batches) for plan in plans)),
        )
        fits = max_bytes is None or size is not None or plan.num_bytes <= max_bytes
        check("max_bytes", max_bytes, fits, f"at least {plan.num_bytes}, which one trial takes")
        plans.append(plan)
        say(console, plan.describe(len(plans), len(groups)))
    return plans


def _sizes(path: Path, groups: Sequence[Group]) -> list[int]:
    """Those of each group's batches, from the file that keeps them."""
    with contextlib.suppress(ValueError):
        sizes = json.loads(path.read_bytes())
        if isinstance(sizes, list) and len(sizes) == len(groups):
            for size in sizes:
                check_count("size", size)
            return sizes
    raise ValueError(f"run_dir: {path} is damaged: it must hold the sizes of {len(groups)} batches")


def check_directories(path: Path, groups: Sequence[Group], about: Mapping[str, Any]) -> None:
    """Raises a ValueError where the directory of a trial holds another run."""
    for group in groups:
        for trial in group.trials:
            check_identity(trial_dir(path, trial.index), _identity(group, trial, about))


def make_directories(
    path: Path, plans: Sequence[Plan], start: Start | None, about: Mapping[str, Any]
) -> None:
    """Of the trials, each the run that it would be alone, with its start and what its identity says
    `about` it; and the sizes of the batches."""
    for group in (plan.group for plan in plans):
        for trial in group.trials:
            directory = trial_dir(path, trial.index)
            directory.mkdir(parents=True, exist_ok=True)
            if start is not None:
                start.save(directory)
            describe(directory, _identity(group, trial, about), trial.config)
    sizes = path / "batches" / "sizes.json"
    sizes.parent.mkdir(exist_ok=True)
    write_whole(sizes, json.dumps([plan.size for plan in plans]))


def _identity(group: Group, trial: Trial, about: Mapping[str, Any]) -> dict[str, Any]:
    return identity_of(group.strategy.population_size, trial, group.problem) | dict(about)


def _checkpoints_of(path: Path | None, batches_before: int, index: int) -> Path | None:
    """Where a group's batch number `index` is saved; batches are numbered through all groups."""
    return None if path is None else path / "batches" / str(batches_before + index)


def make_plan(
    group: Group,
    runs: list[Run],
    exact: bool,
    max_bytes: int,
    size: int | None,
    checkpoints: Callable[[int], Path | None],
) -> Plan:
    """Compiles the group's program for `size` trials at once, or for as many as fit.

    Args:
      group: what all runs share.
      runs: of the group's trials.
      exact: see `jaxes.sweep`.
      max_bytes: what a program may take.
      size: of a sweep that goes on, whose checkpoints have it; None for a new one.
      checkpoints: where those of batch i go.
    """

    def batch(index: int, size: int) -> Batch:
        some = runs[index * size : (index + 1) * size]
        return Batch.of_trials(some, group.problem, group.strategy, checkpoints(index), size, exact)

    chosen, seconds = size or len(runs), 0.0
    while True:
        first = batch(0, chosen)
        program = first.compile(first.trace())
        seconds += program.seconds
        num_bytes = agree.of_first(partial(getattr, program, "num_bytes"))
        if size is not None or num_bytes <= max_bytes or chosen == 1:
            break
        chosen = next_size(chosen, len(runs), num_bytes, max_bytes)
    batches = [first, *(batch(i, chosen) for i in range(1, -(-len(runs) // chosen)))]
    for each in batches:
        each.program = program
    return Plan(group, batches, chosen, seconds, num_bytes)


def next_size(size: int, num_trials: int, num_bytes: int, max_bytes: int) -> int:
    """How many trials to try after `size` of them took too many bytes: equal batches of fewer.

    Memory follows the trials, so as many batches more as bytes are too many should do.
    """
    num_batches = -(-num_trials // size)
    wanted = max(-(-num_bytes * num_batches // max_bytes), num_batches + 1)
    return min(-(-num_trials // wanted), size - 1)
