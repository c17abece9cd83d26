"""The only impure loop: it dispatches chunks of generations, writes metrics and checkpoints."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.console import Console

from jaxes import core, parallel
from jaxes.checks import check_count, check_number, check_seed
from jaxes.core import Problem, Strategy, TrainState, UpdateStep
from jaxes.training.display import Display
from jaxes.training.metrics import LoggerName, Row, check_installed
from jaxes.training.run_dir import Record, identity_of, open_run_dir

MAX_CHUNK = 256  # generations a dispatch, at most; the rows of the metrics buffer
CHUNK_SECONDS = 1.0  # a chunk is cut so that the display moves and Ctrl-C is heard about this often


class TrainResult(NamedTuple):
    """What a run came to.

    Attributes:
      state: the final `TrainState`; `state.strategy.mean` holds the answer.
      run_dir: where metrics and checkpoints lie, if anywhere.
      generation: generations completed.
      env_steps: environment steps of training since the run began; tests apart.
      return_mean: return of the mean policy, averaged over fresh test episodes.
      return_std: its standard deviation over these episodes.
      num_test_episodes: their number.
      num_test_diverged: how many of them ended because the physics diverged.
      floor_mean: return of the policy with all parameters zero, likewise.
      seconds: wall-clock of this process's part of the run, compilation included.
      compile_seconds: the part of it that tracing and compiling took.
    """

    state: TrainState
    run_dir: Path | None
    generation: int
    env_steps: int
    return_mean: float
    return_std: float
    num_test_episodes: int
    num_test_diverged: int
    floor_mean: float
    seconds: float
    compile_seconds: float


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
    loggers: tuple[LoggerName, ...] = (),
    console: Console | None = None,
    config: Mapping[str, Any] | None = None,
) -> TrainResult:
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
      target_return: stop when a test's mean return reaches it.
      loggers: of `tensorboard`, `wandb`.
      console: where progress is shown; None is silent. `rich.console.Console()` is the terminal.
      config: kept as `config.yaml` in a new run, for `jaxes resume`.

    Raises:
      ValueError: a value outside its range, a `run_dir` that holds a run already (without `resume`)
        or another one (with it), a missing logger package; before anything is compiled.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when a checkpoint has been saved.

    Example:
      >>> result = jaxes.train(problem, jaxes.cma_es(64), num_generations=100, run_dir="runs/one")
    """
    started = time.monotonic()
    check_settings(
        num_generations=num_generations,
        seed=seed,
        checkpoint_every=checkpoint_every,
        test_every=test_every,
        target_return=target_return,
        loggers=loggers,
    )
    if loggers and run_dir is None:
        raise ValueError(f"loggers must be empty without a run_dir, got {loggers!r}")
    if resume and run_dir is None:
        raise ValueError("resume must be False without a run_dir, got True")
    core.check_parts(strategy, problem)
    init_key, run_key, test_key = parallel.place(keys_of(seed))
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(_Interrupt())
        record = Record()
        if run_dir is not None:
            identity = identity_of(problem, strategy, seed, config)
            directory = stack.enter_context(open_run_dir(Path(run_dir), identity, resume, config))
            record = stack.enter_context(Record(directory, loggers))
        state = jax.jit(lambda key: core.init(key, strategy, problem))(init_key)
        state = record.restore(state)

        display = stack.enter_context(Display(console, int(state.generation), num_generations))
        if resume and int(state.generation) == 0:
            display.say("no checkpoint to go on from: the run starts at its first generation")
        display.say("compiling ...")
        run_chunk, trace_seconds, compile_seconds = _compile(
            make_chunk(core.make_update_step(strategy, problem)), run_key, state
        )
        display.say(f"traced in {trace_seconds:.1f} s, compiled in {compile_seconds:.1f} s")
        if int(state.generation) >= num_generations:
            display.say("all generations are done; to go on, raise num_generations")
        interrupt.arm()
        loop = _Loop(run_chunk, record, display, interrupt, target_return)
        state = loop.run(state, num_generations, checkpoint_every, test_every)
        generation = int(state.generation)
        record.save(generation, state)
        if interrupt.requested:
            saved = f"saved in {record.directory}" if record.directory else "not saved: no run_dir"
            raise KeyboardInterrupt(f"stopped at generation {generation}, {saved}")

        # Of the same program: episodes that no decision of the run has seen.
        _, _, test = run_chunk(state, 0, True, test_key)
        _, _, floor = run_chunk(with_zero_mean(strategy, state), 0, True, test_key)
        return TrainResult(
            state=state,
            run_dir=record.directory,
            generation=generation,
            env_steps=record.env_steps,
            **summarize(test),
            floor_mean=summarize(floor)["return_mean"],
            seconds=time.monotonic() - started,
            compile_seconds=trace_seconds + compile_seconds,
        )


def keys_of(seed: int) -> Array:
    """The three keys of a run: of its start, its generations, and tests of its result."""
    return jax.random.split(jax.random.key(seed), 3)


def with_zero_mean(strategy: Strategy, state: TrainState) -> TrainState:
    """The state whose mean is the zero policy, the floor that scores are reported beside."""
    zeros = jax.jit(strategy.init)(jnp.zeros_like(state.strategy.mean))
    return parallel.place(state._replace(strategy=zeros))


def summarize(test: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean and standard deviation of a test's returns, the number of its episodes, and of those
    that diverged (their returns count as far as they got)."""
    returns = np.asarray(test["test/returns"], np.float64)
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "num_test_episodes": returns.size,
        "num_test_diverged": int(test.get("test/diverged", 0)),
    }


def check_settings(
    *,
    num_generations: int,
    seed: int,
    checkpoint_every: int,
    test_every: int,
    target_return: float | None,
    loggers: tuple[LoggerName, ...],
    **_: Any,
) -> None:
    """Raises a ValueError for an argument of `train` that is outside its range."""
    check_count("num_generations", num_generations)
    check_seed("seed", seed)
    check_count("checkpoint_every", checkpoint_every)
    check_count("test_every", test_every)
    if target_return is not None:
        check_number("target_return", target_return, allowed="a number or None")
    check_installed(loggers)


def make_chunk(update_step: UpdateStep) -> Callable[..., tuple[TrainState, dict, dict]]:
    """`chunk(key, state, num_generations, test) -> (state, rows, test_metrics)`, to be jitted.

    Runs a traced number of generations and then, where `test` is true, tests the mean. Both are
    the same loop body, so that a whole run with its last, shorter chunk and all its tests compiles
    the update step once. `rows` has `MAX_CHUNK + 1` rows, of which the first `num_generations`
    count.
    """
    step = jax.jit(update_step)  # traced once, for the shapes and for the loop

    def split(row: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        test = {name: value for name, value in row.items() if name.startswith("test/")}
        return {name: value for name, value in row.items() if name not in test}, test

    def chunk(
        key: Array, state: TrainState, num_generations: Array, test: Array
    ) -> tuple[TrainState, dict[str, Array], dict[str, Array]]:
        def body(i: Array, carry: tuple) -> tuple:
            state, rows, _ = carry
            generation_key = jax.random.fold_in(key, state.generation)
            state, row = step(generation_key, state, i == num_generations)
            row, test_metrics = split(row)
            return state, {name: rows[name].at[i].set(row[name]) for name in rows}, test_metrics

        row, test_metrics = split(jax.eval_shape(step, key, state, test)[1])
        rows = {name: jnp.zeros((MAX_CHUNK + 1, *x.shape), x.dtype) for name, x in row.items()}
        test_metrics = {name: jnp.zeros(x.shape, x.dtype) for name, x in test_metrics.items()}
        return jax.lax.fori_loop(
            0, num_generations + test.astype(jnp.int32), body, (state, rows, test_metrics)
        )

    return chunk


RunChunk = Callable[..., tuple[TrainState, dict[str, np.ndarray], dict[str, np.ndarray]]]


def _compile(chunk: Callable, key: Array, state: TrainState) -> tuple[RunChunk, float, float]:
    """The compiled chunk, and the seconds that tracing and compiling it took."""
    started = time.monotonic()
    lowered = jax.jit(chunk).lower(key, state, np.int32(0), np.bool_(False))
    traced = time.monotonic()
    program = lowered.compile()

    def run_chunk(
        state: TrainState, num_generations: int, test: bool, key: Array = key
    ) -> tuple[TrainState, dict[str, np.ndarray], dict[str, np.ndarray]]:
        state, rows, test_metrics = program(key, state, np.int32(num_generations), np.bool_(test))
        return state, *jax.device_get((rows, test_metrics))  # the chunk's only transfer

    return run_chunk, traced - started, time.monotonic() - traced


class _Loop:
    """Dispatches chunks until the run ends."""

    def __init__(
        self,
        run_chunk: RunChunk,
        record: Record,
        display: Display,
        interrupt: "_Interrupt",
        target_return: float | None,
    ):
        self.run_chunk = run_chunk
        self.record = record
        self.display = display
        self.interrupt = interrupt
        self.target_return = target_return

    def run(
        self, state: TrainState, num_generations: int, checkpoint_every: int, test_every: int
    ) -> TrainState:
        """Returns the final state."""
        generation, planned, first = int(state.generation), 1, True
        # A resumed run may have reached its target before it was cut.
        reached = self._reached(self.record.row_at(generation))
        while generation < num_generations and not reached and not self.interrupt.requested:
            stops = [num_generations] + [
                generation + every - generation % every for every in (checkpoint_every, test_every)
            ]
            count = min(*stops, generation + planned) - generation
            test = generation + count == num_generations or (generation + count) % test_every == 0

            started = time.monotonic()
            state, buffers, test_metrics = self.run_chunk(state, count, test)
            seconds = time.monotonic() - started
            if first:
                self.display.say(f"first generation in {seconds:.1f} s")
                first = False

            rows = _rows(buffers, generation, count, seconds / count)
            if test:
                tested = summarize(test_metrics)
                rows[-1] |= {
                    "test/return_mean": tested["return_mean"],
                    "test/return_std": tested["return_std"],
                    "test/diverged": tested["num_test_diverged"],
                }
            self.record.write(rows)
            generation += count
            reached = self._reached(rows[-1])
            if generation % checkpoint_every == 0:
                self.record.save(generation, state)

            steps = sum(row.get("rollout/env_steps", 0) for row in rows)
            seconds_left = seconds / count * (num_generations - generation)
            self.display.update(rows, steps / seconds, seconds_left)
            planned = max(1, min(MAX_CHUNK, round(CHUNK_SECONDS * count / seconds)))
        return state

    def _reached(self, row: Row) -> bool:
        if self.target_return is None or row.get("test/diverged", 1):
            return False
        return row["test/return_mean"] >= self.target_return


def _rows(buffers: dict[str, np.ndarray], generation: int, count: int, seconds: float) -> list[Row]:
    return [
        {"generation": generation + i + 1}
        | {name: buffer[i].item() for name, buffer in buffers.items()}
        | {"time/seconds": seconds}
        for i in range(count)
    ]


class _Interrupt:
    """Once armed, the first Ctrl-C or SIGTERM is a request to stop; a second one is immediate.

    Until then, while there is nothing to save, they do what they always do.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def arm(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._request)

    def _request(self, signum: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt("stopped at once")
        self.requested = True
        with contextlib.suppress(OSError):
            sys.stderr.write("\nstopping after this chunk; once more to stop at once\n")

    def __enter__(self) -> "_Interrupt":
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
