"""The only impure loop: it dispatches chunks of generations, writes metrics and checkpoints."""

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.console import Console

from jaxes import core
from jaxes.core import Problem, Strategy, TrainState, UpdateStep
from jaxes.training.display import Display
from jaxes.training.metrics import LoggerName, Row, Sink, check_installed, open_sinks, read_rows

RUN_FILES = ("run.json", "config.yaml", "metrics.jsonl", "checkpoints")
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
    config: str | None = None,
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
      config: text kept as `config.yaml` in a new run; what `jaxes resume` reads.

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
        loggers=loggers,
    )
    init_key, run_key = jax.random.split(jax.random.key(seed))
    final_key = jax.random.fold_in(run_key, np.iinfo(np.int32).max)
    with contextlib.ExitStack() as stack:
        directory = None
        if run_dir is not None:
            directory = stack.enter_context(_open_run_dir(Path(run_dir), seed, resume, config))
        init = jax.jit(lambda key: core.init(key, strategy, problem))
        state = init(init_key)

        checkpoints, sinks, env_steps = None, [], 0
        if directory is not None:
            from jaxes.training.checkpoint import Checkpoints

            checkpoints = Checkpoints(directory / "checkpoints")
            stack.callback(checkpoints.close)
            if (latest := checkpoints.latest()) is not None:
                state = checkpoints.restore(latest, state)
            rows, _ = read_rows(directory / "metrics.jsonl")
            generation = int(state.generation)
            env_steps = sum(
                row.get("rollout/env_steps", 0) for row in rows if row["generation"] <= generation
            )
            sinks = open_sinks(directory, loggers)
            for sink in sinks:
                stack.callback(sink.close)

        interrupt = stack.enter_context(_Interrupt())
        display = stack.enter_context(Display(console, int(state.generation), num_generations))
        display.say("compiling ...")
        run_chunk, compile_seconds = _compile(
            make_chunk(core.make_update_step(strategy, problem)), run_key, state
        )
        display.say(f"compiled in {compile_seconds:.1f} s")
        loop = _Loop(run_chunk, sinks, checkpoints, display, interrupt, env_steps)
        state = loop.run(state, num_generations, checkpoint_every, test_every, target_return)
        if interrupt.requested:
            raise KeyboardInterrupt(f"saved at generation {int(state.generation)}")

        # Of the same program: episodes that no decision of the run has seen.
        zero = state._replace(strategy=jax.jit(strategy.init)(jnp.zeros_like(state.strategy.mean)))
        _, _, returns = run_chunk(state, 0, True, final_key)
        _, _, floor = run_chunk(zero, 0, True, final_key)
        return TrainResult(
            state=state,
            run_dir=directory,
            generation=int(state.generation),
            env_steps=loop.env_steps,
            return_mean=float(np.mean(returns, dtype=np.float64)),
            return_std=float(np.std(returns, dtype=np.float64)),
            num_test_episodes=returns.size,
            floor_mean=float(np.mean(floor, dtype=np.float64)),
            seconds=time.monotonic() - started,
            compile_seconds=compile_seconds,
        )


def check_settings(
    *,
    num_generations: int,
    seed: int,
    checkpoint_every: int,
    test_every: int,
    loggers: tuple[LoggerName, ...],
    **_: Any,
) -> None:
    """Raises a ValueError for an argument of `train` that is outside its range."""
    for field, value, least in [
        ("num_generations", num_generations, 1),
        ("seed", seed, 0),
        ("checkpoint_every", checkpoint_every, 1),
        ("test_every", test_every, 1),
    ]:
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{field} must be a whole number of at least {least}, got {value!r}")
    check_installed(loggers)


def make_chunk(update_step: UpdateStep) -> Callable[..., tuple[TrainState, dict, Array]]:
    """`chunk(key, state, num_generations, test) -> (state, rows, test_returns)`, to be jitted.

    Runs a traced number of generations and then, where `test` is true, tests the mean. Both are
    the same loop body, so that a whole run with its last, shorter chunk and all its tests compiles
    the update step once. `rows` has `MAX_CHUNK + 1` rows, of which the first `num_generations`
    count.
    """
    step = jax.jit(update_step)  # traced once, for the shapes and for the loop

    def chunk(
        key: Array, state: TrainState, num_generations: Array, test: Array
    ) -> tuple[TrainState, dict[str, Array], Array]:
        def body(i: Array, carry):
            state, rows, _ = carry
            generation_key = jax.random.fold_in(key, state.generation)
            state, row = step(generation_key, state, i == num_generations)
            returns = row.pop("test/returns")
            return state, {name: rows[name].at[i].set(row[name]) for name in rows}, returns

        _, row = jax.eval_shape(step, key, state, test)
        returns = jnp.zeros_like(row.pop("test/returns"))
        rows = {name: jnp.zeros((MAX_CHUNK + 1, *x.shape), x.dtype) for name, x in row.items()}
        return jax.lax.fori_loop(
            0, num_generations + test.astype(jnp.int32), body, (state, rows, returns)
        )

    return chunk


def _compile(chunk: Callable, key: Array, state: TrainState) -> tuple[Callable, float]:
    started = time.monotonic()
    program = jax.jit(chunk).lower(key, state, np.int32(0), np.bool_(False)).compile()

    def run_chunk(state: TrainState, num_generations: int, test: bool, key: Array = key):
        state, rows, returns = program(key, state, np.int32(num_generations), np.bool_(test))
        return state, *jax.device_get((rows, returns))  # the chunk's only transfer

    return run_chunk, time.monotonic() - started


class _Loop:
    """Dispatches chunks until the run ends; knows what surrounds them."""

    def __init__(
        self,
        run_chunk: Callable,
        sinks: list[Sink],
        checkpoints: Any,
        display: Display,
        interrupt: "_Interrupt",
        env_steps: int,
    ):
        self.run_chunk = run_chunk
        self.sinks = sinks
        self.checkpoints = checkpoints
        self.display = display
        self.interrupt = interrupt
        self.env_steps = env_steps

    def run(
        self,
        state: TrainState,
        num_generations: int,
        checkpoint_every: int,
        test_every: int,
        target_return: float | None,
    ) -> TrainState:
        """Returns the final state."""
        generation, planned = int(state.generation), 1
        while generation < num_generations and not self.interrupt.requested:
            stops = [num_generations] + [
                generation + every - generation % every for every in (checkpoint_every, test_every)
            ]
            count = min(*stops, generation + planned) - generation
            test = generation + count == num_generations or (generation + count) % test_every == 0

            started = time.monotonic()
            state, buffers, returns = self.run_chunk(state, count, test)
            seconds = time.monotonic() - started

            rows = _rows(buffers, generation, count, seconds / count)
            if test:
                rows[-1]["test/return_mean"] = float(np.mean(returns, dtype=np.float64))
                rows[-1]["test/return_std"] = float(np.std(returns, dtype=np.float64))
            for sink in self.sinks:
                sink.write(rows)

            generation += count
            steps = sum(row.get("rollout/env_steps", 0) for row in rows)
            self.env_steps += steps
            seconds_left = seconds / count * (num_generations - generation)
            self.display.update(rows, steps / seconds, seconds_left)
            planned = max(1, min(MAX_CHUNK, round(CHUNK_SECONDS * count / seconds)))

            reached = test and target_return is not None and np.mean(returns) >= target_return
            ends = reached or generation == num_generations or self.interrupt.requested
            if self.checkpoints is not None and (ends or generation % checkpoint_every == 0):
                self.checkpoints.save(generation, state)
            if reached:
                break
        return state


def _rows(buffers: dict[str, np.ndarray], generation: int, count: int, seconds: float) -> list[Row]:
    return [
        {"generation": generation + i + 1}
        | {name: buffer[i].item() for name, buffer in buffers.items()}
        | {"time/seconds": seconds}
        for i in range(count)
    ]


@contextlib.contextmanager
def _open_run_dir(run_dir: Path, seed: int, resume: bool, config: str | None) -> Iterator[Path]:
    """Claims the directory for this process, and the run in it for this seed."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir: {run_dir} is not a directory")
    if not resume and any((run_dir / name).exists() for name in RUN_FILES):
        raise ValueError(
            f"run_dir: {run_dir} already holds a run; resume it or choose another directory"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"run_dir: {run_dir} is in use by another process") from error
        about = run_dir / "run.json"
        if about.exists():
            saved = json.loads(about.read_text())
            if saved["seed"] != seed:
                raise ValueError(f"seed: the run in {run_dir} has {saved['seed']}, got {seed}")
        else:
            if config is not None:
                _write(run_dir / "config.yaml", config)
            devices = ", ".join(device.device_kind for device in jax.local_devices())
            _write(about, json.dumps({"seed": seed, "jax": jax.__version__, "devices": devices}))
        yield run_dir


def _write(path: Path, text: str) -> None:
    """Writes a file that is either there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


class _Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request to stop; a second one is immediate."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def _request(self, signum: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "_Interrupt":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._request)
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
