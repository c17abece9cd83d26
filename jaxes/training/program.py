"""The program of a run, or of trials side by side: generations and tests, chunk by chunk."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import core
from jaxes.core import TrainState
from jaxes.training.metrics import Row
from jaxes.training.schedule import MAX_CHUNK

of_run = core.with_run_key


def make_chunk(step: Callable) -> Callable[..., tuple[TrainState, dict, dict]]:
    """`chunk(key, state, num_generations, test, active) -> (state, rows, test_metrics)`, to be
    jitted, from the step of a run or of stacked trials.

    Runs a traced number of generations and then, where `test` is true, tests the mean; where
    `active` (of each trial) is false, neither. Both are the same loop body, so that a whole run
    with its last, shorter chunk and all its tests compiles the update step once. `rows` has
    `MAX_CHUNK + 1` rows, of which the first `num_generations` count.
    """
    step = jax.jit(step)  # traced once, for the shapes and for the loop

    def chunk(
        key: Array, state: TrainState, num_generations: Array, test: Array, active: Array
    ) -> tuple[TrainState, dict[str, Array], dict[str, Array]]:
        def body(i: Array, carry: tuple) -> tuple:
            state, rows, _ = carry
            phase = jnp.where(i == num_generations, core.TEST, core.TRAIN)
            phase = jnp.where(active, phase, core.IDLE).astype(jnp.int32)  # or it is traced twice
            state, row, test_metrics = step(key, state, phase)
            return state, {name: rows[name].at[i].set(row[name]) for name in rows}, test_metrics

        _, row, test_metrics = jax.eval_shape(step, key, state, active.astype(jnp.int32))
        if test_metrics is None:
            raise ValueError("problem: its Evaluation must have tests, a jaxes.Tests, got None")
        rows = {name: jnp.zeros((MAX_CHUNK + 1, *x.shape), x.dtype) for name, x in row.items()}
        test_metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), test_metrics)
        return jax.lax.fori_loop(
            0, num_generations + test.astype(jnp.int32), body, (state, rows, test_metrics)
        )

    return chunk


RunChunk = Callable[..., tuple[TrainState, dict[str, np.ndarray], dict[str, np.ndarray]]]


class Program(NamedTuple):
    """A compiled chunk, and the seconds that tracing and compiling it took."""

    chunk: Any
    trace_seconds: float
    compile_seconds: float

    def __call__(
        self, key: Array, state: TrainState, num_generations: int, test: bool, active: Any = True
    ) -> tuple[TrainState, dict[str, np.ndarray], dict[str, np.ndarray]]:
        arguments = np.int32(num_generations), np.bool_(test), np.asarray(active, bool)
        state, rows, test_metrics = self.chunk(key, state, *arguments)
        return state, *jax.device_get((rows, test_metrics))  # the chunk's only transfer

    def say_seconds(self) -> str:
        return f"traced in {self.trace_seconds:.1f} s, compiled in {self.compile_seconds:.1f} s"


def compile_chunk(step: Callable, key: Array, state: TrainState) -> Program:
    """The program of a run, or of stacked trials, from its step."""
    started = time.monotonic()
    active = np.ones(key.shape, bool)
    lowered = jax.jit(make_chunk(step)).lower(key, state, np.int32(0), np.bool_(False), active)
    traced = time.monotonic()
    return Program(lowered.compile(), traced - started, time.monotonic() - traced)


def make_rows(
    columns: Mapping[str, list],
    generation: int,
    seconds: float,
    test_metrics: dict[str, np.ndarray] | None,
) -> list[Row]:
    """The rows of the generations after this one, which took these seconds, from the values of each
    metric; the last with the test's result."""
    rows = [
        {"generation": generation + i} | dict(zip(columns, values, strict=True))
        for i, values in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    for row in rows:
        row["time/seconds"] = seconds / len(rows)
    if test_metrics is not None:
        tested = summarize(test_metrics)
        rows[-1] |= {
            "test/return_mean": tested["return_mean"],
            "test/return_std": tested["return_std"],
            "test/diverged": tested["num_test_diverged"],
        }
    return rows


def summarize(test: Any) -> dict[str, Any]:
    """Mean and standard deviation of a test's returns, the number of its episodes, and of those
    that diverged (their returns count as far as they got)."""
    returns = np.asarray(test.returns, np.float64)
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()) if np.isfinite(returns).all() else math.nan,
        "num_test_episodes": returns.size,
        "num_test_diverged": int(np.sum(test.diverged)),
    }
