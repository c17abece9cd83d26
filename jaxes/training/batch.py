"""What one program takes on at once: a run alone, or trials of a sweep side by side."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import core, parallel
from jaxes.core import AnyTests, Generation, Problem, Strategy, TrainHParams, TrainState
from jaxes.hosts import agree, watch, world
from jaxes.training.metrics import Row
from jaxes.training.program import Program, Traced, trace_chunk
from jaxes.training.run import Run, RunResult, make_rows
from jaxes.training.schedule import Schedule
from jaxes.training.tested import summarize
from jaxes.trials import of_trial, vmapped_one_by_one


class Played(NamedTuple):
    """A chunk that was run.

    Attributes:
      generations: how many.
      state: after them.
      rows: metrics by name, as `Program` gives them.
      tests: of the mean after them; None where it was not tested.
      seconds: wall-clock.
      waited: seconds of them in which this process's CPU devices had nothing to compute.
    """

    generations: int
    state: Any
    rows: dict[str, np.ndarray]
    tests: AnyTests | None
    seconds: float
    waited: float


class Batch:
    """Runs under way in one program, and where they are.

    Attributes:
      runs: B of them. A run alone is unstacked: its arrays lack the leading axis [B].
      step: a generation of all, `(keys, state, phases) -> (state, metrics, tests)`.
      keys: of the runs' generations, [B].
      test_keys: of the tests of their results, [B].
      state: `TrainState`, or another that knows its generation, each leaf [B, ...].
      active: bool [B], which of them go on; false for padding.
      done: generations completed by those that go on.
      program: what takes them on, once it is compiled.
      standing: from a state to the one whose tests are of the zero policy.
      derived: from a row to what is told beside it.
      noise: numbers that are drawn for a generation's update, N · D; None where that is not known.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        step: Generation,
        keys: tuple[Array, Array],
        state: Any,
        checkpoints: Path | None,
        standing: Callable[[Any], Any] | None = None,
        derived: Callable[[Row], Row] = lambda row: {},
        noise: int | None = None,
    ):
        self.noise = noise
        self.standing = standing or with_zero_mean
        self.derived = derived
        self.runs = runs
        self.step = step
        self.keys, self.test_keys = keys
        self.state = state
        self.stacked = self.keys.ndim > 0
        self.active = np.arange(self.keys.size) < len(runs)
        self.done = 0
        self.program: Program | None = None
        self._path = checkpoints
        self._checkpoints: Any = None

    @classmethod
    def of_run(
        cls, run: Run, problem: Problem, strategy: Strategy, checkpoints: Path | None
    ) -> "Batch":
        """A run alone."""
        init_key, *keys = parallel.place(keys_of(run.trial.seed))
        state = jax.jit(lambda key: core.init(key, strategy, problem))(init_key)
        step = core.with_run_key(core.make_generation(strategy, problem))
        noise = strategy.population_size * state.strategy.mean.size
        return cls([run], step, tuple(keys), state, checkpoints, noise=noise)

    @classmethod
    def of_trials(
        cls,
        runs: Sequence[Run],
        problem: Problem,
        strategy: Strategy,
        checkpoints: Path | None,
        size: int,
        exact: bool,
    ) -> "Batch":
        """Trials side by side, and repetitions of the last one up to `size` of them.

        Exact ones have the bits of their runs alone: they ask and tell one after another.
        """
        strategy = vmapped_one_by_one(strategy, exact)
        padded = [run.trial for run in (*runs, *[runs[-1]] * (size - len(runs)))]
        seeds = np.array([trial.seed for trial in padded], np.uint32)
        init_keys, *keys = parallel.place(tuple(jax.jit(jax.vmap(keys_of))(seeds).T))
        hparams = jax.tree.map(
            lambda *values: np.asarray(values, float), *[trial.hparams for trial in padded]
        )

        def init(row: tuple[Array, TrainHParams]) -> TrainState:
            key, hparams = row
            return core.init(key, strategy, problem, hparams)

        state = jax.jit(lambda rows: jax.lax.map(init, rows))((init_keys, hparams))
        step = core.with_run_key(core.make_generation(strategy, problem))
        return cls(runs, jax.vmap(step), tuple(keys), state, checkpoints)

    def trace(self) -> Traced:
        with watch.compiling():
            return trace_chunk(self.step, self.keys, self.state)

    def compile(self, traced: Traced) -> Program:
        with watch.compiling():
            self.program = traced.compile()
        return self.program

    def going_on(self) -> list[tuple[int, Run]]:
        """The runs that go on, with their places."""
        return [(i, run) for i, run in enumerate(self.runs) if self.active[i]]

    def end(self, place: int, status: str) -> None:
        """Takes a run out, and says why."""
        self.active[place] = False
        self.runs[place].end(status)

    def end_at_target(self, schedule: Schedule) -> None:
        """Takes those out whose last test reached the target, in an earlier process too."""
        for i, run in enumerate(self.runs):
            if run.status != "stopped" and run.tests and schedule.reached(run.tests[-1]):
                self.end(i, "target")

    def stops(self) -> list[int]:
        """Where callbacks ended runs that go on from before that."""
        return [run.stops_at for _, run in self.going_on() if run.stops_at is not None]

    def end_where_stopped(self) -> None:
        for i, run in self.going_on():
            if run.stops_at == self.done:
                self.end(i, "stopped")

    def load(self) -> None:
        """Takes up where the runs were cut; nothing is written yet. Only the first process reads.

        Raises:
          ValueError: what they left is damaged, or is another's.
        """
        self.done, remembered = agree.of_first(self._read)
        if world.joined():
            for run, memory in zip(self.runs, remembered, strict=True):
                run.remember(memory)
            if self.done:
                self.state = agree.from_first(self.state)
        generations = np.atleast_1d(self.state.generation)
        for i, run in enumerate(self.runs):
            if run.status == "done" and generations[i] < self.done:
                run.status = "dropped"  # or at its target, which its tests say
            self.active[i] = run.status == "done"

    def _read(self) -> tuple[int, list[dict[str, Any]]]:
        """The generation to go on from, and what is known of each run."""
        done = 0
        if self._path is not None:
            from jaxes.training.checkpoint import Checkpoints, as_state

            if (newest := Checkpoints(self._path, read_only=True).newest()) is not None:
                done, leaves = newest
                self.state = as_state(done, leaves, self.state)
        for run, generation in zip(self.runs, np.atleast_1d(self.state.generation), strict=False):
            run.read(int(generation))
        return done, [run.memory() for run in self.runs]

    def open(self) -> None:
        """Says where rows and checkpoints go from now on."""
        if self._path is not None:
            from jaxes.training.checkpoint import Checkpoints

            self._checkpoints = Checkpoints(self._path)
            self._checkpoints.set_aside_after(self.done)
        for run in self.runs:
            run.open()

    def save(self, schedule: Schedule) -> None:
        """Starts a checkpoint, unless there is one of this generation.

        Raises:
          OSError: an earlier one could not be saved.
        """
        if self._checkpoints is not None:
            # Which one is best depends on the trial: those of a sweep only have the last ones.
            scores = {} if self.stacked else self.runs[0].scores()
            keep = partial(schedule.kept, scores=scores)
            self._checkpoints.save(self.done, self.state, keep)

    def raise_if_unsaved(self, wait: bool = False) -> None:
        """Raises the OSError of a checkpoint that could not be saved; waits for it, if asked to."""
        if self._checkpoints is not None:
            self._checkpoints.raise_if_failed(wait)

    def close(self) -> None:
        """Waits until everything is written."""
        for run in self.runs:
            run.close()
        if self._checkpoints is not None:
            self._checkpoints.close()

    def play(self, count: int, test: bool) -> Played:
        """Runs a chunk of generations."""
        started, computed = time.monotonic(), time.process_time()
        state, rows, tests = self._call(self.keys, self.state, count, test)
        seconds, computed = time.monotonic() - started, time.process_time() - computed
        waited = max(0.0, seconds - computed / jax.local_device_count())
        return Played(count, state, rows, tests if test else None, seconds, waited)

    def take_up(self, played: Played, seconds: float, waited: float) -> None:
        """Goes on from there, and writes the chunk's rows.

        Args:
          played: the chunk.
          seconds: that it took.
          waited: how long a process had nothing to compute meanwhile, on average.
        """
        count, state, rows, tests = played[:4]
        begin, self.state, self.done = self.done, state, self.done + count
        columns = {name: self._stack(rows[name], axis=1)[:count].T.tolist() for name in rows}
        shares = _shares(columns, self.active)
        for i, run in self.going_on():
            column_of = {name: column[i] for name, column in columns.items()}
            tested = None if tests is None else self._of(tests, i)
            rows_of = make_rows(column_of, begin, seconds * shares[i], tested)
            beside = self._of_hosts(waited / count * shares[i], shares[i])
            run.write([row | self.derived(row) | beside for row in rows_of])

    def _of_hosts(self, waited: float, share: float) -> Row:
        """What a row says of a run on many hosts."""
        if not world.joined():
            return {}
        assert self.program is not None
        said = {"net/bytes": round(self.program.net_bytes * share)}
        return said | ({"time/wait": waited} if jax.default_backend() == "cpu" else {})

    def state_of(self, place: int) -> TrainState:
        """The state of one of the runs."""
        return self._of(parallel.local(self.state), place)

    def zero_policy(self) -> dict[str, Any]:
        """What tests of the zero policy come to, now, in the first run."""
        return summarize(self._of(self._tests(self.standing(self.state)), 0))

    def results(self) -> Iterator[RunResult]:
        """What the runs came to, by tests in episodes that no decision has seen; of trials, one
        after another, each kept in a checkpoint of its own."""
        assert self.program is not None
        tests, zero_policy = map(self._tests, (self.state, self.standing(self.state)))
        states = parallel.local(self.state)
        if self.stacked:
            states = jax.device_get(states)  # rows of it are slow
        for i, run in enumerate(self.runs):
            state, tested, zero = (self._of(tree, i) for tree in (states, tests, zero_policy))
            if self.stacked:
                run.save(state)
            yield run.result(state, tested, zero, self.program.seconds)

    def _tests(self, state: TrainState) -> Any:
        """Of the results, for everyone."""
        with watch.exchanging():
            return self._call(self.test_keys, state, 0, True, everyone=True)[2]

    def _call(
        self, keys: Array, state: TrainState, count: int, test: bool, everyone: bool = False
    ) -> tuple[TrainState, dict[str, np.ndarray], Any]:
        assert self.program is not None
        active = np.arange(self.active.size) < len(self.runs) if everyone else self.active
        return self.program(keys, state, count, test, active.reshape(keys.shape))

    def _stack(self, array: np.ndarray, axis: int) -> np.ndarray:
        """With the axis [B], which a run alone lacks."""
        return array if self.stacked else np.expand_dims(array, axis)

    def _of(self, tree: Any, place: int) -> Any:
        return of_trial(tree, place) if self.stacked else tree


def keys_of(seed: int | Array) -> Array:
    """The three keys of a run: of its start, its generations, and tests of its result."""
    return jax.random.split(jax.random.key(seed), 3)


def with_zero_mean(state: TrainState) -> TrainState:
    """The state whose mean is the zero policy, which scores are reported beside."""
    mean = state.strategy.mean
    zeros = parallel.place_as(jnp.zeros(mean.shape, mean.dtype), mean.sharding)
    return state._replace(strategy=state.strategy._replace(mean=zeros))


def _shares(columns: dict[str, list], active: np.ndarray) -> np.ndarray:
    """Each run's share [B] of a chunk's time: by its steps where there are any."""
    steps = np.array([sum(column) for column in columns.get("rollout/env_steps", [])])
    steps = np.where(active, steps, 0) if steps.sum() > 0 else active
    return steps / steps.sum()
