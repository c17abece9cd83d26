"""The trials of a group: the program that runs them, in as many batches as memory asks for."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxes import core, parallel
from jaxes.core import Problem, Strategy, TrainHParams, TrainState
from jaxes.sweeps.results import Trial
from jaxes.training.program import Program, compile_chunk, of_run
from jaxes.training.trainer import keys_of
from jaxes.trials import vmapped_one_by_one

MEMORY_SHARE = 0.75  # of what is free, for the trials that run at once


class Group(NamedTuple):
    """Trials that share all that is static: one compiled program."""

    problem: Problem
    strategy: Strategy
    trials: tuple[Trial, ...]


class Batch:
    """Trials of a group that run at once, and where they are."""

    def __init__(self, group: Group, trials: Sequence[Trial], size: int, exact: bool):
        self.group = group
        self.trials = trials
        padded = [*trials, *[trials[-1]] * (size - len(trials))]  # all batches have one shape
        self.real = np.arange(size) < len(trials)
        self.active = self.real.copy()
        self.generation = 0
        strategy = vmapped_one_by_one(group.strategy, batched=not exact)
        self.step = jax.vmap(of_run(core.make_generation(strategy, group.problem)))
        seeds = np.array([trial.seed for trial in padded], np.uint32)
        keys = jax.jit(jax.vmap(keys_of))(seeds)
        init_keys, self.run_keys, self.test_keys = parallel.place(tuple(keys.T))
        hparams = jax.tree.map(
            lambda *values: np.asarray(values, float), *[trial.hparams for trial in padded]
        )

        def init(row: tuple[Array, TrainHParams]) -> TrainState:
            key, hparams = row
            return core.init(key, strategy, group.problem, hparams)

        self.state = jax.jit(lambda rows: jax.lax.map(init, rows))((init_keys, hparams))

    def each(self) -> list[tuple[int, Trial]]:
        """The trials that go on, with their places."""
        return [(i, trial) for i, trial in enumerate(self.trials) if self.active[i]]


class Plan(NamedTuple):
    """The batches of a group, their program, and the bytes that it needs while it runs."""

    batches: list[Batch]
    program: Program
    num_bytes: int


def make_plan(group: Group, exact: bool, max_bytes: int, size: int | None = None) -> Plan:
    """Compiles the group's program, for `size` trials at once, or as many as fit."""
    fixed, count, compiled = size is not None, 1, None
    size = size or len(group.trials)
    while True:
        batch = Batch(group, group.trials[:size], size, exact)
        program = compile_chunk(batch.step, batch.run_keys, batch.state)
        seconds = (program.trace_seconds, program.compile_seconds)
        compiled = seconds if compiled is None else tuple(np.add(seconds, compiled))
        program = Program(program.chunk, *compiled)
        num_bytes = bytes_of(program)
        if fixed or num_bytes <= max_bytes or size == 1:
            break
        # Memory follows the trials, so this many batches fit; if not quite, smaller ones.
        count = max(-(-num_bytes * count // max_bytes), count + 1)
        size = min(-(-len(group.trials) // count), size - 1)
    rest = [
        Batch(group, group.trials[first : first + size], size, exact)
        for first in range(size, len(group.trials), size)
    ]
    return Plan([batch, *rest], program, num_bytes)


def bytes_of(program: Program) -> int:
    """What XLA reserves while the program runs: arguments, results and all between."""
    memory = program.chunk.memory_analysis()
    one = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    devices = jax.local_devices()
    return one * (len(devices) if devices[0].platform == "cpu" else 1)  # these share one memory


def free_bytes() -> int:
    """Of the memory that devices have: a GPU's own, or the machine's, or the container's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(found[1]) * 1024 if found else free
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or no limit: `max`
        container = Path("/sys/fs/cgroup")
        limit = int((container / "memory.max").read_text())
        free = min(free, limit - int((container / "memory.current").read_text()))
    return free


def describe(plan: Plan, number: int, of: int) -> str:
    """A group's line of the plan."""
    size = plan.batches[0].active.size
    batches = f" in {len(plan.batches)} batches of {size}" if len(plan.batches) > 1 else ""
    group = plan.batches[0].group
    return (
        f"program {number} of {of}: {len(group.trials)} trials{batches}, "
        f"population {group.strategy.population_size}, {plan.num_bytes / 2**20:,.0f} MiB "
        f"({plan.program.say_seconds()})"
    )
