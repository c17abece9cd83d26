"""The only impure loop: it dispatches chunks of generations, writes metrics and checkpoints."""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from rich.console import Console

from jaxes import core, parallel
from jaxes.checks import check_seed
from jaxes.core import Problem, Strategy, TrainState
from jaxes.training.display import Display
from jaxes.training.interrupt import Interrupt
from jaxes.training.metrics import LoggerName, check_installed
from jaxes.training.program import Program, compile_chunk, make_rows, of_run, summarize
from jaxes.training.run_dir import Record, identity_of, open_run_dir
from jaxes.training.schedule import Pace, Schedule


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
    schedule = Schedule(num_generations, checkpoint_every, test_every, target_return)
    check_settings(schedule, seed, loggers)
    if loggers and run_dir is None:
        raise ValueError(f"loggers must be empty without a run_dir, got {loggers!r}")
    if resume and run_dir is None:
        raise ValueError("resume must be False without a run_dir, got True")
    core.check_parts(strategy, problem)
    init_key, run_key, test_key = parallel.place(keys_of(seed))
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
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
        program = compile_chunk(of_run(core.make_generation(strategy, problem)), run_key, state)
        display.say(program.say_seconds())
        if int(state.generation) >= num_generations:
            display.say("all generations are done; to go on, raise num_generations")
        interrupt.arm()
        state = _Loop(program, run_key, record, display, interrupt).run(state, schedule)
        generation = int(state.generation)
        record.save(generation, state)
        if interrupt.requested:
            saved = f"saved in {record.directory}" if record.directory else "not saved: no run_dir"
            raise KeyboardInterrupt(f"stopped at generation {generation}, {saved}")

        # Of the same program: episodes that no decision of the run has seen.
        _, _, test = program(test_key, state, 0, True)
        _, _, floor = program(test_key, with_zero_mean(strategy, state), 0, True)
        return TrainResult(
            state=state,
            run_dir=record.directory,
            generation=generation,
            env_steps=record.env_steps,
            **summarize(test),
            floor_mean=summarize(floor)["return_mean"],
            seconds=time.monotonic() - started,
            compile_seconds=program.trace_seconds + program.compile_seconds,
        )


def keys_of(seed: int | Array) -> Array:
    """The three keys of a run: of its start, its generations, and tests of its result."""
    return jax.random.split(jax.random.key(seed), 3)


def with_zero_mean(strategy: Strategy, state: TrainState) -> TrainState:
    """The state whose mean is the zero policy, the floor that scores are reported beside."""
    zeros = jax.jit(strategy.init)(jnp.zeros_like(state.strategy.mean))
    return parallel.place(state._replace(strategy=zeros))


def check_settings(schedule: Schedule, seed: int, loggers: tuple[LoggerName, ...]) -> None:
    """Raises a ValueError for an argument of `train` that is outside its range."""
    schedule.check()
    check_seed("seed", seed)
    check_installed(loggers)


class _Loop:
    """Dispatches chunks until the run ends."""

    def __init__(
        self,
        program: Program,
        key: Array,
        record: Record,
        display: Display,
        interrupt: Interrupt,
    ):
        self.program = program
        self.key = key
        self.record = record
        self.display = display
        self.interrupt = interrupt

    def run(self, state: TrainState, schedule: Schedule) -> TrainState:
        """Returns the final state."""
        generation, first = int(state.generation), True
        pace = Pace(schedule)
        # A resumed run may have reached its target before it was cut.
        done = schedule.reached(self.record.row_at(generation))
        while generation < schedule.num_generations and not done and not self.interrupt.requested:
            count, test = pace.next(generation)
            started = time.monotonic()
            state, buffers, test_metrics = self.program(self.key, state, count, test)
            seconds = time.monotonic() - started
            if first:
                self.display.say(f"first generation in {seconds:.1f} s")
                first = False

            columns = {name: buffer[:count].tolist() for name, buffer in buffers.items()}
            rows = make_rows(columns, generation, seconds, test_metrics if test else None)
            self.record.write(rows)
            generation += count
            done = schedule.reached(rows[-1])
            if generation % schedule.checkpoint_every == 0:
                self.record.save(generation, state)

            steps = sum(row.get("rollout/env_steps", 0) for row in rows)
            seconds_left = seconds / count * (schedule.num_generations - generation)
            self.display.update(rows, steps / seconds, seconds_left)
            pace.took(count, seconds)
        return state
