"""The impure loop of a search: its starts one after another, saved on the way, until it ends."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxes import parallel
from jaxes.checks import MAX_COUNT
from jaxes.core import Strategy
from jaxes.interrupt import Interrupt, answer
from jaxes.optimize import programs as compiled
from jaxes.optimize.host import check_host_fitness, check_rows
from jaxes.optimize.programs import Arguments, Kind, Objective, Programs
from jaxes.optimize.progress import Progress, SearchResult, save
from jaxes.optimize.restarts import Restarts, Start, patience, plan_after
from jaxes.optimize.space import Space
from jaxes.optimize.start import REASONS, StartState, Termination, memory

Callback = Callable[[SearchResult], bool | None]

SAVE_EVERY = 10.0  # seconds, or 20 times what saving takes


class Task(NamedTuple):
    """What is searched, and how.

    Attributes:
      make: from a population size to a strategy.
      mean: `(index of the start) -> pytree`.
      space: of its vectors.
      objective: the traced function; None where it is a host function.
      fitness_fn: the function as it was given.
      size: members of the first start.
    """

    make: Callable[[int], Strategy]
    mean: Callable[[int], Any]
    space: Space
    objective: Objective | None
    fitness_fn: Callable[[Any], Any]
    size: int
    budget: int
    target: float | None
    restarts: Restarts
    max_restarts: int
    termination: Termination
    seed: int

    def plan(self, used: tuple[int, ...]) -> Start | None:
        """The start after those that have used so many evaluations; None after the last."""
        return plan_after(used, self.restarts, self.size, self.max_restarts, self.seed)

    def begun(self, used: tuple[int, ...]) -> Start:
        """The same, where it is known to have begun."""
        plan = self.plan(used)
        assert plan is not None
        return plan

    def space_of(self, plan: Start) -> Space:
        """A start may have steps of its own."""
        scale = self.space.scale
        return self.space._replace(scale=scale * scale.dtype.type(plan.std_factor))


class Drive(Interrupt):
    """One call of `maximize`; a context manager, since it hears Ctrl-C and SIGTERM.

    Attributes:
      task: what is searched.
      identity: of the search, as plain data.
      directory: where it is saved; None for nowhere.
      callback: is shown the result so far; True ends the search.
    """

    def __init__(
        self,
        task: Task,
        identity: dict[str, Any],
        directory: Path | None = None,
        callback: Callback | None = None,
    ):
        super().__init__()
        self.task, self.identity = task, identity
        self.directory, self.callback = directory, callback
        layout = task.space.layout
        self._used: tuple[int, ...] = ()
        self._best = Best(layout.ravel(task.mean(0)), np.asarray(-np.inf, layout.dtype))
        self._state: StartState | None = None
        self._seen: Seen | None = None
        self._saved, self._save_every = time.monotonic(), SAVE_EVERY

    def template(self, used: tuple[int, ...]) -> StartState:
        """The shapes and dtypes of the start after those. Nothing is computed."""
        programs, size, arguments = self._programs(used)
        mean = np.zeros_like(self._best.x)
        return jax.eval_shape(partial(programs.begin, size), arguments, mean)

    def go_on_from(self, progress: Progress) -> None:
        self._used, self._best = progress.used, Best(progress.best, progress.best_fitness)
        target, state = self.task.target, progress.start
        fitness = max(float(self._best.fitness), float(state.search.best_fitness))
        if REASONS[int(state.reason)] == "target" and (target is None or fitness < target):
            state = state._replace(reason=np.int32(0))  # type: ignore[arg-type]
        self._look_at(state)

    def run(self) -> SearchResult:
        """To the end of the search.

        Raises:
          KeyboardInterrupt: after Ctrl-C or SIGTERM; like any other exception that leaves this
            function once there is a start, it has the `result` so far.
        """
        self.arm()
        try:
            reason = self._starts()
        except BaseException as error:
            if self._seen is not None:
                error.result = self._result("none")  # type: ignore[attr-defined]
                self._save()
            raise
        self._save()
        return self._result(reason)

    def _result(self, reason: str) -> SearchResult:
        return self._so_far(reason)._replace(progress=self._progress())

    def _so_far(self, reason: str) -> SearchResult:
        assert self._seen is not None
        layout, best = self.task.space.layout, max(self._best, self._seen.best, key=_fitness)
        return SearchResult(
            solution=layout.unravel(best.x),
            value=float(best.fitness),
            evaluations=sum(self._used) + self._seen.evaluations,
            reason=reason,
            starts=len(self._used) + 1,
            mean=jax.device_get(self.task.space_of(self._plan).solution(self._seen.mean)),
        )

    @property
    def _plan(self) -> Start:
        return self.task.begun(self._used)

    def _starts(self) -> str:
        while True:
            reason = self._start()
            if reason in ("target", "callback"):
                return reason
            assert self._seen is not None
            used, size = (*self._used, self._seen.evaluations), self._plan.population_size
            left = self.task.budget - sum(used)
            if reason == "none" and size > left:
                return "budget"
            following = self.task.plan(used)
            if following is None:
                return "max_generations" if reason == "none" else reason
            if following.population_size > left:
                return "budget"
            self._used, self._best = used, max(self._best, self._seen.best, key=_fitness)
            self._state = None

    def _start(self) -> str:
        """Drives one start to its end: why it ended, or `none` where its generations are over."""
        task, plan = self.task, self._plan
        programs, size, arguments = self._programs(self._used)
        if self._state is None:
            u = task.space_of(plan).coordinates(task.mean(len(self._used)))
            parallel.check_memory(self.template(self._used), task.space.layout.size)
            # It is the same in any population that can be padded: compiled for the first one.
            first = size if arguments.constants is None else task.size
            self._look_at(programs.begin(first, arguments._replace(constants=None), u))
        limit = int(min(task.budget - sum(self._used), plan.budget)) // plan.population_size
        if task.restarts != "none":
            limit = min(limit, patience(task.space.layout.size, plan.population_size))
        advance = self._on_host if task.objective is None else self._compiled
        for state in advance(programs, size, arguments, min(max(limit, 1), MAX_COUNT)):
            self._look_at(state)
            if self._visit():
                return "callback"
        return REASONS[int(self._going.reason)]

    def _programs(self, used: tuple[int, ...]) -> tuple[Programs, int, Arguments]:
        """The programs of a start, the size of its population in them, and their arguments."""
        task = self.task
        plan = task.begun(used)
        space = task.space_of(plan)
        layout, objective = space.layout, task.objective
        recipe = compiled.recipe(task.make(plan.population_size))
        size, constants = compiled.pad(recipe, plan.population_size, task.size, layout)
        kind = Kind(
            strategy=recipe.key,
            text=None if objective is None else objective.text,
            length=memory(layout.size, task.size),
            dtype=layout.dtype,
            make=recipe.make,
            space=space,
            jaxpr=None if objective is None else objective.jaxpr,
        )
        arguments = Arguments(
            seed=np.uint32(task.seed),
            number=np.int32(len(used)),
            scale=space.scale,
            box=space.box,
            target=layout.dtype.type(np.nan if task.target is None else task.target),
            termination=Termination(*map(layout.dtype.type, task.termination)),
            size=np.int32(plan.population_size),
            constants=constants,
            captured=[] if objective is None else objective.captured,
        )
        return compiled.programs(kind), size, arguments

    def _unfinished(self, limit: int) -> bool:
        state = self._going
        return int(state.reason) == 0 and int(state.search.generation) < limit

    def _compiled(
        self, programs: Programs, size: int, arguments: Arguments, limit: int
    ) -> Iterator[StartState]:
        """Comes back about once a second, so that Ctrl-C is heard."""
        count = 64
        while self._unfinished(limit):
            began, generation = time.monotonic(), int(self._going.search.generation)
            until = np.int32(min(generation + count, limit))
            state = programs.generations(size, arguments, self._going, until)
            yield jax.block_until_ready(state)
            seconds = time.monotonic() - began
            count = min(4 * count, 2**20) if seconds < 0.25 else max(1, int(count / seconds))

    def _on_host(
        self, programs: Programs, size: int, arguments: Arguments, limit: int
    ) -> Iterator[StartState]:
        """Comes back after each generation."""
        layout, dtype = self.task.space.layout, self.task.space.layout.dtype
        checked = int(self._going.search.generation) > 0
        while self._unfinished(limit):
            state = self._going
            x = programs.ask(size, arguments, state)
            # A copy, without those that are not real: a host function may write into its argument.
            rows = np.array(x)[: arguments.size]
            if not checked:
                check_rows(self.task.fitness_fn, layout.unravel(rows.copy()))
                checked = True
            fitness = np.asarray(self.task.fitness_fn(layout.unravel(rows)))
            check_host_fitness(fitness, len(rows), dtype)
            padded = np.full(size, -np.inf, dtype)
            padded[: len(rows)] = fitness
            yield programs.tell(size, arguments, state, x, padded)

    @property
    def _going(self) -> StartState:
        assert self._state is not None
        return self._state

    def _look_at(self, state: StartState) -> None:
        search = state.search
        seen = (search.best, search.best_fitness, search.strategy.mean, search.generation)
        x, fitness, mean, generation = jax.device_get(seen)
        evaluations = int(generation) * self._plan.population_size
        self._state, self._seen = state, Seen(Best(x, fitness), mean, evaluations)

    def _visit(self) -> bool:
        """Calls back, saves where it is time to, and stops where that was asked for."""
        over = self.callback is not None and answer(self.callback(self._so_far("none")))
        if self.directory and time.monotonic() - self._saved > self._save_every:
            self._save()
        if self.requested:
            saved = f", saved in {self.directory}" if self.directory else ""
            done = sum(self._used) + self._seen.evaluations if self._seen else 0
            raise KeyboardInterrupt(f"stopped after {done} evaluations{saved}")
        return over

    def _progress(self) -> Progress | None:
        """None where the last state was lost: its program had its buffers, and failed."""
        state = self._going
        if any(getattr(leaf, "is_deleted", bool)() for leaf in jax.tree.leaves(state)):
            return None
        start = jax.device_get(state)
        return Progress(self.identity, self._used, self._best.x, self._best.fitness, start)

    def _save(self) -> None:
        progress = self._progress() if self.directory else None
        if self.directory and progress is not None:
            began = time.monotonic()
            save(self.directory, progress)
            self._saved = time.monotonic()
            self._save_every = max(SAVE_EVERY, 20 * (self._saved - began))


class Best(NamedTuple):
    x: np.ndarray  # [D]
    fitness: np.ndarray  # []


class Seen(NamedTuple):
    """What a result needs of a start's state, on the host."""

    best: Best
    mean: np.ndarray  # u [D]
    evaluations: int


def _fitness(best: Best) -> float:
    return float(best.fitness)
