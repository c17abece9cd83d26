"""The program of a run, or of trials side by side: generations and tests, chunk by chunk."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import core, parallel
from jaxes.core import AnyTests, Generation, TrainState
from jaxes.hosts import traffic
from jaxes.training.schedule import MAX_CHUNK

Rows = dict[str, np.ndarray]  # metrics by name: [MAX_CHUNK + 1], of B trials [MAX_CHUNK + 1, B]
Chunk = Callable[..., tuple[TrainState, dict[str, Array], AnyTests | None]]


def make_chunk(generation: Generation) -> Chunk:
    """`chunk(key, state, num_generations, test, active) -> (state, rows, tests)`, to be jitted,
    from the generation of a run (with the run's key, see `core.with_run_key`) or of stacked trials.

    Runs a traced number of generations and then, where `test` is true, tests the mean; where
    `active` (of each trial) is false, neither. Both are the same loop body, so that a whole run
    with its last, shorter chunk and all its tests compiles the update step once. `rows` has
    `MAX_CHUNK + 1` rows, of which the first `num_generations` count.
    """
    step = jax.jit(generation)  # traced once, for the shapes and for the loop

    def chunk(
        key: Array, state: TrainState, num_generations: Array, test: Array, active: Array
    ) -> tuple[TrainState, dict[str, Array], AnyTests | None]:
        def body(i: Array, carry: tuple) -> tuple:
            state, rows, _ = carry
            phase = jnp.where(i == num_generations, core.TEST, core.TRAIN)
            phase = jnp.where(active, phase, core.IDLE).astype(jnp.int32)  # or it is traced twice
            state, row, tests = step(key, state, phase)
            return state, {name: rows[name].at[i].set(row[name]) for name in rows}, tests

        _, row, tests = jax.eval_shape(step, key, state, active.astype(jnp.int32))
        check_tests(tests)
        rows = {name: jnp.zeros((MAX_CHUNK + 1, *x.shape), x.dtype) for name, x in row.items()}
        tests = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tests)
        return jax.lax.fori_loop(
            0, num_generations + test.astype(jnp.int32), body, (state, rows, tests)
        )

    return chunk


def check_tests(tests: AnyTests | None) -> AnyTests:
    """The same; raises a ValueError where a problem's evaluation has none."""
    if tests is None:
        raise ValueError("problem must be one whose Evaluation has `tests` of the mean, got None")
    return tests


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled chunk, and the seconds that tracing and compiling it took."""

    chunk: jax.stages.Compiled
    trace_seconds: float
    compile_seconds: float

    def __call__(
        self, key: Array, state: TrainState, num_generations: int, test: bool, active: np.ndarray
    ) -> tuple[TrainState, Rows, AnyTests | None]:
        """Runs a chunk; rows and tests come as NumPy arrays.

        Args:
          key: of the run, or of each trial [B].
          state: of the run, or of trials: each leaf with the leading axis [B].
          num_generations: how many, at most `MAX_CHUNK`.
          test: whether the mean is tested after them.
          active: bool, of the shape of `key`: who takes part.
        """
        state, rows, tests = self.chunk(
            key, state, np.int32(num_generations), np.bool_(test), active
        )
        return state, *jax.device_get((rows, tests))  # the chunk's only transfer

    @property
    def seconds(self) -> float:
        return self.trace_seconds + self.compile_seconds

    @property
    def num_bytes(self) -> int:
        """What XLA reserves while it runs: arguments, results and all between."""
        memory: Any = self.chunk.memory_analysis()
        one = memory.argument_size_in_bytes + memory.output_size_in_bytes
        one += memory.temp_size_in_bytes
        devices = jax.local_devices()
        return one * (len(devices) if devices[0].platform == "cpu" else 1)  # these share one memory

    @functools.cached_property
    def net_bytes(self) -> int:
        """What each process sends to others in a generation."""
        mesh = parallel.make_mesh()
        return traffic.of_generation(self.chunk.as_text() or "", *mesh.devices.shape)

    def say_seconds(self) -> str:
        return f"traced in {self.trace_seconds:.1f} s, compiled in {self.compile_seconds:.1f} s"


class Traced(NamedTuple):
    """A chunk that is not compiled yet, and the seconds that tracing it took."""

    lowered: jax.stages.Lowered
    seconds: float

    def compile(self) -> Program:
        started = time.monotonic()
        return Program(self.lowered.compile(), self.seconds, time.monotonic() - started)


def trace_chunk(generation: Generation, key: Array, state: Any) -> Traced:
    """The program of a run, or of stacked trials; see `make_chunk`.

    Raises:
      ValueError: a part of the problem or the policy fails, or returns something else.
    """
    started = time.monotonic()
    active = np.ones(key.shape, bool)
    chunk = jax.jit(make_chunk(generation))
    lowered = chunk.lower(key, state, np.int32(0), np.bool_(False), active)
    return Traced(lowered, time.monotonic() - started)
