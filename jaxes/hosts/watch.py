"""Who watches that all processes that run as one go on.

Each says once in a while that it lives, how far it has come, and what it has computed;
the first process reads that, and names who has fallen silent, or who is waited for. The others
watch that the first one answers. Whoever sees an end ends its own process, from a thread, because
the main one waits in an exchange and hears nothing.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

from jaxes.exits import RESTART
from jaxes.hosts import leaving, world

_watch: "Watch | None" = None

SILENCE = 30.0  # seconds without a sign of life, after which a process counts as lost
ENDED = -1  # in the place of a count of signs: the process waits for the others to end
MANY = 500  # processes, from which signs are rarer, so that the first one is not flooded


class Sign(NamedTuple):
    """Of a process: signs so far, exchanges begun and ended, seconds that it computed."""

    beats: int
    steps: int
    computed: float


class Watch:
    """Threads beside a run of many processes.

    Args:
      patience: seconds without a finished chunk after which all end.
    """

    def __init__(self, patience: float):
        self.patience = patience
        self.interval = max(1.0, world.count() / MANY)
        self.silence = min(SILENCE, patience)
        self._answered = self._moved = time.monotonic()
        self._steps = 0
        self._busy = False  # in what all processes do together
        self._stopped = threading.Event()
        # Of each process its last sign, when it came, and what it computed in a second.
        nothing = (Sign(0, 0, 0.0), self._moved, 0.0)
        self._seen = {str(process): nothing for process in range(world.count())}
        self._threads = [
            threading.Thread(target=loop, daemon=True, name=f"jaxes-{loop.__name__}")
            for loop in (self._signal, self._guard)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=2 * self.interval)
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._post(Sign(ENDED, self._steps, 0.0))

    def _move(self) -> None:
        self._steps += 1
        self._moved = time.monotonic()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around what no process finishes before all have come to it."""
        self._move()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._move()

    def _signal(self) -> None:
        beats = 0
        while not self._stopped.wait(self.interval):
            beats += 1
            try:
                self._post(Sign(beats, self._steps, time.process_time()))
                found = leaving.failure_of_others()
                self._answered = time.monotonic()
                if found is None and world.is_first():
                    self._look()
            except jax.errors.JaxRuntimeError:
                continue  # the guard knows for how long
            if found is not None:
                # What is wrong with the input is found by all, each for itself.
                grace = 0 if found.code == RESTART else leaving.GRACE
                if not self._stopped.wait(grace):
                    leaving.leave(found.code, found.described())

    def _post(self, sign: Sign) -> None:
        world.post(f"signs/{world.index()}", json.dumps(sign), again=True)

    def _guard(self) -> None:
        """That the first process answers."""
        while not self._stopped.wait(0.5):
            quiet = time.monotonic() - self._answered
            if quiet > self.silence + self.interval:
                text = f"process 0 has not answered for {quiet:.0f} s"
                leaving.leave(RESTART, text)

    def _look(self) -> None:
        """In the first process: who is silent, or who is waited for."""
        now = time.monotonic()
        for process, text in world.read_all("signs").items():
            sign = Sign(*json.loads(text))
            before, then, _ = self._seen[process]
            if before.beats != sign.beats:
                rate = (sign.computed - before.computed) / max(now - then, 1e-3)
                self._seen[process] = (sign, now, rate)
        for process, (sign, last, _) in self._seen.items():
            if sign.beats != ENDED and now - last > self.silence:
                self._name(int(process), f"no sign of life for {now - last:.0f} s")
        if self._busy and now - self._moved > self.patience:
            # Of those that have come least far the one that still computes, while others wait.
            slowest = min(self._seen, key=lambda p: (self._seen[p][0].steps, -self._seen[p][2]))
            self._name(int(slowest), f"all wait for it: no progress for {now - self._moved:.0f} s")

    def _name(self, process: int, message: str) -> None:
        """Ends all, because of one."""
        failure = leaving.Failure(process, message, RESTART)
        leaving.tell(failure)
        leaving.leave(failure.code, failure.described())


def begin(patience: float) -> Watch:
    """Starts to watch."""
    global _watch
    _watch = Watch(patience)
    _watch.start()
    return _watch


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """Around what no process finishes before all have come to it: how long it takes is watched, and
    where it breaks this process leaves."""
    if _watch is None:
        yield
        return
    with _watch.together(), leaving.losing_others():
        yield
