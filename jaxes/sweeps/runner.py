"""The loop of a sweep: it dispatches chunks of generations and writes what they came to."""

import time
from typing import NamedTuple

import numpy as np
from rich.console import Console

from jaxes.sweeps.batches import Batch
from jaxes.sweeps.directory import SweepDir
from jaxes.training.display import say
from jaxes.training.interrupt import Interrupt
from jaxes.training.program import Program, make_rows
from jaxes.training.schedule import Pace, Schedule
from jaxes.trials import of_trial


class Runner(NamedTuple):
    """Runs one batch, the sweep's `number`-th, chunk by chunk."""

    program: Program
    batch: Batch
    number: int
    directory: SweepDir
    interrupt: Interrupt
    console: Console | None

    def run(self, schedule: Schedule) -> None:
        """To the schedule's last generation, or until no trial goes on."""
        batch, pace, end = self.batch, Pace(schedule), schedule.num_generations
        before = batch.generation
        self._end_those_at(schedule)  # a resumed sweep may have some
        while batch.generation < end and batch.active.any() and not self.interrupt.requested:
            count, test = pace.next(batch.generation)
            started = time.monotonic()
            batch.state, buffers, tests = self.program(
                batch.run_keys, batch.state, count, test, batch.active
            )
            seconds = time.monotonic() - started
            self._write(buffers, count, seconds, tests if test else None)
            if batch.generation == before:
                left = seconds / count * (end - before)
                text = f"first generations in {seconds:.1f} s; about {left:,.0f} s to {end}"
                say(self.console, text)
            batch.generation += count
            if batch.generation % schedule.checkpoint_every == 0:
                self.directory.save(self.number, batch)
            if test:
                self._end_those_at(schedule)
                left = seconds / count * (end - batch.generation)
                self._say_standing(end, left)
            pace.took(count, seconds)
        if batch.generation > before:
            self.directory.save(self.number, batch)

    def _write(
        self,
        buffers: dict[str, np.ndarray],
        count: int,
        seconds: float,
        tests: dict[str, np.ndarray] | None,
    ) -> None:
        """A chunk's rows of every trial that goes on."""
        share = _shares(buffers, count, self.batch.active)
        columns = {name: buffer[:count].T.tolist() for name, buffer in buffers.items()}
        for i, trial in self.batch.each():
            rows = make_rows(
                {name: column[i] for name, column in columns.items()},
                self.batch.generation,
                seconds * share[i],
                None if tests is None else of_trial(tests, i),
            )
            self.directory.write(trial, rows)

    def _end_those_at(self, schedule: Schedule) -> None:
        """Trials that have reached the target end."""
        for i, trial in self.batch.each():
            last_test = self.directory.tests_of(trial)[-1:]  # none follows the one that reached it
            if any(map(schedule.reached, last_test)):
                self.batch.active[i] = False
                self.directory.mark(trial, "target")

    def _say_standing(self, end: int, seconds_left: float) -> None:
        if self.console is not None:
            say(
                self.console,
                f"generation {self.batch.generation}/{end}  {self.directory.leader()}  "
                f"{self.batch.active.sum()} trials go on  {seconds_left:,.0f} s left",
            )


def _shares(buffers: dict[str, np.ndarray], count: int, active: np.ndarray) -> np.ndarray:
    """Each trial's share [T] of a chunk's time: by its steps where there are any."""
    steps = buffers.get("rollout/env_steps", np.zeros((1, active.size)))[:count].sum(axis=0)
    steps = np.where(active, steps, 0) if steps.sum() > 0 else active
    return steps / steps.sum()
