"""The only impure loop: it dispatches chunks of generations, writes what they came to, and ends
when it is time to."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

from jaxes.core import TrainState
from jaxes.exits import BEGUN
from jaxes.hosts import agree, leaving, watch, world
from jaxes.interrupt import Interrupt, answer
from jaxes.training.batch import Batch
from jaxes.training.metrics import Row
from jaxes.training.run import Run
from jaxes.training.schedule import Pace, Schedule, TimeLeft

# At the end of a chunk: its last row, and the state; True ends the run.
Callback = Callable[[Row, TrainState], bool | None]


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a display is told after each chunk.

    Attributes:
      batch: where it is now.
      num_generations: where it ends.
      count: generations of this chunk.
      seconds: wall-clock of this chunk.
      tested: whether there was a test after it.
      first: whether it is the first chunk of this call of `drive`.
      seconds_left: until it ends.
    """

    batch: Batch
    num_generations: int
    count: int
    seconds: float
    tested: bool
    first: bool
    seconds_left: float


class Shows(Protocol):
    def update(self, progress: Progress) -> None: ...


class Loop(Interrupt):
    """Drives batches; a context manager, since from its first batch on it hears Ctrl-C and SIGTERM.
    What leaves it after that as an exception has a note that says so: it is no refusal of input.

    Processes that run as one end a chunk together: a signal to any of them counts for all then, and
    the first one's clock and callback do.

    Attributes:
      run_dir: what it says that it saved in.
      callback: see `Callback`; called for each run that goes on.
    """

    def __init__(self, run_dir: Path | None, callback: Callback | None = None):
        super().__init__()
        self.run_dir = run_dir
        self.callback = callback
        self._generation: int | None = None
        self._agreed = 0

    @property
    def asked(self) -> int:
        return self._agreed if world.joined() else self.heard

    def __enter__(self) -> Self:
        self._calls_back = agree.of_first(lambda: self.callback is not None)
        if world.joined():
            self.arm()  # a process that simply ended would end all others
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if error is not None and self._generation is not None:
            there = self.run_dir is not None and self.run_dir.exists()
            saved = f"; {self.run_dir} has what was saved" if there else ""
            error.add_note(f"{BEGUN}, and had come to generation {self._generation}{saved}")

    def drive(self, batch: Batch, schedule: Schedule, display: Shows) -> None:
        """To the schedule's last generation, or until no run goes on; saved on the way and then.

        Raises:
          KeyboardInterrupt: after Ctrl-C or SIGTERM, when the batch is saved.
        """
        self.arm()
        with leaving.saving(lambda: self._save(batch, schedule)):
            self._go_on(batch, schedule, display)
            with leaving.undisturbed():
                self._save(batch, schedule)
        self.stop_if_requested(batch.done)

    def _go_on(self, batch: Batch, schedule: Schedule, display: Shows) -> None:
        pace, time_left = Pace(schedule), TimeLeft()
        first, end = True, schedule.num_generations
        batch.end_at_target(schedule)  # a resumed run may have reached it
        self._generation = batch.done
        self._tell()
        while batch.done < end and batch.active.any() and not self.requested:
            count, test = pace.next(batch.done, batch.stops())
            batch.raise_if_unsaved()
            advanced = batch.going_on()
            seconds = self._advance(batch, count, test)
            self._generation = batch.done
            if test:
                batch.end_at_target(schedule)
            batch.end_where_stopped()
            if batch.done % schedule.checkpoint_every == 0:
                with leaving.undisturbed():
                    batch.save(schedule)
            time_left.took(batch.done, count, seconds)
            left = time_left.until(batch.done, end)
            display.update(Progress(batch, end, count, seconds, test, first, left))
            self._call_back(batch, advanced, schedule)
            pace.took(count, seconds)
            first = False

    def _advance(self, batch: Batch, count: int, test: bool) -> float:
        """A chunk; returns the seconds that it took, for all processes those of the first."""
        with watch.exchanging():
            played = batch.play(count, test)
            heard, seconds, waited = agree.gathered([self.heard, played.seconds, played.waited]).T
        self._agreed = int(heard.max())
        with leaving.undisturbed():
            batch.take_up(played, float(seconds[0]), float(waited.mean()))
        return float(seconds[0])

    def _tell(self) -> None:
        """All processes which signal each has heard."""
        agree.wait_for_all()
        with watch.exchanging():
            self._agreed = int(agree.gathered([self.heard]).max())

    def _save(self, batch: Batch, schedule: Schedule) -> None:
        batch.save(schedule)
        batch.raise_if_unsaved(wait=True)

    def _call_back(self, batch: Batch, runs: list[tuple[int, Run]], schedule: Schedule) -> None:
        if not self._calls_back:
            return
        for i in agree.of_first(lambda: self._stopped(batch, runs, schedule)):
            if batch.active[i]:
                batch.end(i, "stopped")

    def _stopped(self, batch: Batch, runs: list[tuple[int, Run]], schedule: Schedule) -> list[int]:
        """The places of those runs that the callback ends."""
        assert self.callback is not None
        try:
            return [
                i
                for i, run in runs
                if answer(
                    self.callback(
                        run.last_row | ({"trial": run.trial.index} if batch.stacked else {}),
                        batch.state_of(i),
                    )
                )
            ]
        except BaseException:
            with leaving.undisturbed():
                batch.save(schedule)
            raise

    def stop_if_requested(self, generation: int) -> None:
        """Raises the KeyboardInterrupt that was asked for, if one was."""
        if self.requested:
            saved = f"saved in {self.run_dir}" if self.run_dir else "not saved: no run_dir"
            self.stop(f"stopped at generation {generation}, {saved}")
