"""Who watches that all processes that run as one go on.

Each says once in a while that it lives, how far it has come, what it has computed, and whether it
waits for others; the first process reads that, and names who has fallen silent, or who is waited
for. The others watch that the first one answers. Whoever sees an end ends its own process, from a
thread, because the main one waits, or hangs, and hears nothing.
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
LINGERING = 5.0  # seconds after which nobody that still waits will hear of a process that has ended
MANY = 500  # processes, from which signs are rarer, so that the first one is not flooded


class Sign(NamedTuple):
    """What a process says of itself.

    Attributes:
      beats: signs so far, or ENDED.
      steps: how often it has begun or ended to wait, or to compile.
      computed: seconds of its CPU time.
      waits: whether it is where no process goes on before all have come.
      compiles: whether it does what may take long once, while others wait.
    """

    beats: int = 0
    steps: int = 0
    computed: float = 0.0
    waits: bool = False
    compiles: bool = False


class Seen(NamedTuple):
    """The last sign of a process, when it came, when its `steps` were others, and what it computed
    in a second."""

    sign: Sign
    heard: float
    moved: float
    rate: float = 0.0


class Watch:
    """Threads beside a run of many processes.

    Args:
      patience: seconds for which one process may let others wait, unless it compiles.
    """

    def __init__(self, patience: float):
        self.patience = patience
        self.interval = max(1.0, world.count() / MANY)
        self.silence = min(SILENCE, patience)
        self._answered = self._moved = time.monotonic()
        self._steps = 0
        self._waits = self._compiles = False
        self._stopped = threading.Event()
        nothing = Seen(Sign(), self._moved, self._moved)
        self._seen = dict.fromkeys(range(world.count()), nothing)
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
            self._post(Sign(ENDED, self._steps))

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """While this process `_waits` or `_compiles`."""
        before = getattr(self, what)
        self._move(what, True)
        try:
            yield
        finally:
            self._move(what, before)

    def _move(self, what: str, now: bool) -> None:
        setattr(self, what, now)
        self._steps += 1
        self._moved = time.monotonic()

    def _signal(self) -> None:
        beats = 0
        while not self._stopped.wait(self.interval):
            beats += 1
            try:
                computed = time.process_time()
                self._post(Sign(beats, self._steps, computed, self._waits, self._compiles))
                found = leaving.failure_of_others()
                self._answered = time.monotonic()
                if found is None:
                    self._look() if world.is_first() else self._look_at_first()
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

    def _look_at_first(self) -> None:
        """In the others: whether they wait for a first process that has ended."""
        if self._waits and time.monotonic() - self._moved > LINGERING:
            said = world.read("signs/0")
            if said is not None and Sign(*json.loads(said)).beats == ENDED:
                self._name(0, "it has ended, and others wait for it")

    def _look(self) -> None:
        """In the first process: who is silent, or is waited for."""
        now = time.monotonic()
        for place, text in world.read_all("signs").items():
            self._hear(int(place), Sign(*json.loads(text)), now)
        for process, seen in self._seen.items():
            if seen.sign.beats != ENDED and now - seen.heard > self.silence:
                self._name(process, f"no sign of life for {now - seen.heard:.0f} s")
        self._look_who_waits(now)

    def _hear(self, process: int, sign: Sign, now: float) -> None:
        before, heard, moved, _ = self._seen[process]
        if before.beats != sign.beats:
            rate = (sign.computed - before.computed) / max(now - heard, 1e-3)
            moved = now if before.steps != sign.steps or sign.beats == ENDED else moved
            self._seen[process] = Seen(sign, now, moved, rate)

    def _look_who_waits(self, now: float) -> None:
        still = {process: now - seen.moved for process, seen in self._seen.items()}
        ended = [p for p, seen in self._seen.items() if seen.sign.beats == ENDED]
        waiting = [p for p, seen in self._seen.items() if seen.sign.waits]
        longest = max((still[process] for process in waiting), default=0.0)
        if ended and min(longest, still[ended[0]]) > LINGERING:
            self._name(ended[0], "it has ended, and others wait for it")
        # Where all wait, as in a generation, one of them still computes.
        apart = [p for p in self._seen if p not in waiting] or list(self._seen)
        stuck = [p for p in apart if still[p] > self.patience and not self._seen[p].sign.compiles]
        if longest > self.patience and stuck:
            slowest = min(stuck, key=lambda p: (self._seen[p].sign.steps, -self._seen[p].rate))
            text = f"others wait for it: no progress for {still[slowest]:.0f} s"
            self._name(slowest, text)

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
    with waiting(), leaving.losing_others():
        yield


def waiting() -> contextlib.AbstractContextManager[None]:
    """Around what no process finishes before others have come to it."""
    return contextlib.nullcontext() if _watch is None else _watch.noting("_waits")


def compiling() -> contextlib.AbstractContextManager[None]:
    """Around what may take long once: others wait for it with more than patience."""
    return contextlib.nullcontext() if _watch is None else _watch.noting("_compiles")
