"""The impure loop of a search: its starts one after another, saved on the way, until it ends."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxes.checks import MAX_COUNT
from jaxes.interrupt import Interrupt, answer
from jaxes.optimize.host import as_host, check_host_fitness, check_rows
from jaxes.optimize.progress import Progress, SearchResult, save
from jaxes.optimize.start import REASONS, StartState
from jaxes.optimize.task import Task

Callback = Callable[[SearchResult], bool | None]

SAVE_EVERY = 10.0  # seconds, or 20 times what saving takes


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
        self._best = Best(layout.ravel(task.mean(0)), np.asarray(-np.inf, layout.dtype))
        self._run = task.start(())
        self._state: StartState | None = None
        self._seen: Seen | None = None
        self._saved, self._save_every = time.monotonic(), SAVE_EVERY

    def go_on_from(self, progress: Progress) -> None:
        """Takes up a search that was left.

        Raises:
          ValueError: it is another one.
        """
        self._run = self.task.start(progress.used)
        self._run.check(progress.start)
        self._best = Best(progress.best, progress.best_fitness)
        self._look_at(progress.start)
        if REASONS[int(progress.start.reason)] == "target" and not self._is_reached():
            reason: Any = np.zeros_like(progress.start.reason)  # another target now
            self._look_at(progress.start._replace(reason=reason))

    def run(self) -> SearchResult:
        """To the end of the search.

        Raises:
          KeyboardInterrupt: after Ctrl-C or SIGTERM; like any other exception that leaves this
            function once there is a start, it has the `result` so far.
        """
        self.arm()
        try:
            reason = "target" if self._is_reached() else self._starts()
            self._save()
        except BaseException as error:
            if self._seen is not None:
                with contextlib.suppress(Exception):  # of a user's own kind, which may refuse it
                    error.result = self._result("none")  # type: ignore[attr-defined]
                try:
                    self._save()
                except OSError as failed:
                    error.add_note(f"the search could not be saved: {failed}")
            raise
        result = self._result(reason)
        if np.isneginf(self._best_of_all().fitness):
            level = 4 + self.identity["minimized"]  # where the call stands
            said = f"fitness_fn gave no finite value of any of {result.evaluations} solutions"
            warnings.warn(said, stacklevel=level)
        return result

    def _result(self, reason: str) -> SearchResult:
        return self._so_far(reason)._replace(progress=self._progress())

    def _so_far(self, reason: str) -> SearchResult:
        assert self._seen is not None
        best = self._best_of_all()
        return SearchResult(
            solution=self.task.space.layout.unravel(best.x),
            value=float(best.fitness),
            evaluations=sum(self._run.used) + self._seen.evaluations,
            reason=reason,
            starts=len(self._run.used) + 1,
            mean=jax.device_get(self._run.space.solution(self._seen.mean)),
        )

    def _best_of_all(self) -> "Best":
        return self._best if self._seen is None else max(self._best, self._seen.best, key=_fitness)

    def _is_reached(self) -> bool:
        return bool(self._best_of_all().fitness >= self.task.number(self.task.target))

    def _starts(self) -> str:
        """Drives one start after the other; why the search ended."""
        if self._state is None:
            self._look_at(self._run.begin())
        while True:
            reason = self._to_its_end()
            if reason in ("target", "callback"):
                return reason
            assert self._seen is not None
            used = (*self._run.used, self._seen.evaluations)
            left = self.task.budget - sum(used)
            if reason == "none" and self._run.plan.population_size > left:
                return "budget"
            following = self.task.plan(used)
            if following is None:
                return "max_generations" if reason == "none" else reason
            if following.population_size > left:
                return "budget"
            run = self.task.start(used)
            state = run.begin()  # which may fail: until here the last start is the one that counts
            self._run, self._best = run, self._best_of_all()
            self._look_at(state)

    def _to_its_end(self) -> str:
        """Drives the start: why it ended, or `none` where its generations are over."""
        advance = self._on_host if self.task.objective is None else self._compiled
        for state in advance(min(self._run.limit, MAX_COUNT)):
            self._look_at(state)
            if self._visit():
                return "callback"
        return REASONS[int(self._going.reason)]

    def _unfinished(self, limit: int) -> bool:
        state = self._going
        return int(state.reason) == 0 and int(state.search.generation) < limit

    def _compiled(self, limit: int) -> Iterator[StartState]:
        """Comes back about once a second, so that Ctrl-C is heard."""
        count = 64
        while self._unfinished(limit):
            began, generation = time.monotonic(), int(self._going.search.generation)
            state = self._run.generations(self._going, min(generation + count, limit))
            yield jax.block_until_ready(state)
            seconds = time.monotonic() - began
            count = min(4 * count, 2**20) if seconds < 0.25 else max(1, int(count / seconds))

    def _on_host(self, limit: int) -> Iterator[StartState]:
        """Comes back after each generation."""
        layout, run = self.task.space.layout, self._run
        checked = int(self._going.search.generation) > 0
        while self._unfinished(limit):
            state = self._going
            x = run.ask(state)
            # A copy, without those that are not real: a host function may write into its argument.
            rows = np.array(x)[: run.plan.population_size]
            if not checked:
                check_rows(self.task.fitness_fn, layout.unravel(rows.copy()))
                checked = True
            fitness = as_host(self.task.fitness_fn(layout.unravel(rows)))
            check_host_fitness(fitness, len(rows), layout.dtype)
            yield run.tell(state, x, fitness)

    @property
    def _going(self) -> StartState:
        assert self._state is not None
        return self._state

    def _look_at(self, state: StartState) -> None:
        search = state.search
        seen = (search.best, search.best_fitness, search.strategy.mean, search.generation)
        x, fitness, mean, generation = jax.device_get(seen)
        evaluations = int(generation) * self._run.plan.population_size
        self._state, self._seen = state, Seen(Best(x, fitness), mean, evaluations)

    def _visit(self) -> bool:
        """Calls back, saves where it is time to, and stops where that was asked for."""
        over = self.callback is not None and answer(self.callback(self._so_far("none")))
        if self.directory and time.monotonic() - self._saved > self._save_every:
            self._save()
        if self.requested:
            saved = f", saved in {self.directory}" if self.directory else ""
            done = sum(self._run.used) + self._seen.evaluations if self._seen else 0
            self.stop(f"stopped after {done} evaluations{saved}")
        return over

    def _progress(self) -> Progress | None:
        """None where the last state was lost: its program had its buffers, and failed."""
        state = self._going
        if any(getattr(leaf, "is_deleted", bool)() for leaf in jax.tree.leaves(state)):
            return None
        start = jax.device_get(state)
        return Progress(self.identity, self._run.used, self._best.x, self._best.fitness, start)

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
