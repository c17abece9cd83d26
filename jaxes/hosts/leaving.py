"""How processes that run as one end together where one of them fails.

Who fails says so on the board; the others look there once a second, and leave with it, since they
would wait for ever in an exchange with a process that is gone. What a supervisor starts again it
sees by the exit code: `RESTART` where a process was lost.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax

from jaxes.exits import FAILED, RESTART, code_of
from jaxes.hosts import world

GRACE = 2.0  # seconds in which what fails everywhere may fail here as well
LINGERING = 6.0  # seconds in which the others may hear of it
SAVING = 60.0  # seconds in which the last finished generation can be saved


class Failure(NamedTuple):
    """What stands on the board of the first failure: where, what was said, and with which code."""

    process: int
    message: str
    code: int

    def described(self) -> str:
        return f"process {self.process} on {host_of(self.process)}: {self.message}"


class OthersFailedError(Exception):
    """Another process that runs as one with this has failed; it has said why."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


_leaving = threading.Lock()  # held by the thread that ends this process
_saving = threading.Lock()  # held while what is to be saved changes, or is saved
_save: Callable[[], None] | None = None
_code: int | None = None  # with which this process ends, where it must not wait for others
_stderr = 2
# What is in the message of an exchange that broke, not of an error in what is computed.
BROKEN = ("gloo", "nccl", "connect", "deadline_exceeded", "unavailable", "aborted", "heartbeat")


def host_of(process: int) -> str:
    """The machine on which a process runs."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # the board may be gone by now
        return world.read(f"host/{process}") or "an unknown host"
    return "an unknown host"


def begin() -> None:
    """Tells the others where this process runs."""
    global _stderr
    _stderr = os.dup(2)  # which is silenced for a while
    sys.excepthook = functools.partial(_raised, sys.excepthook)
    world.post(f"host/{world.index()}", f"{socket.gethostname()} (pid {os.getpid()})")


def failure() -> Failure | None:
    """The first failure of any process."""
    said = world.read("failed")
    return Failure(**json.loads(said)) if said else None


def tell(failure: Failure) -> None:
    """Posts it, unless another one was the first."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        world.post("failed", json.dumps(failure._asdict()))


def failure_of_others() -> Failure | None:
    """The same, unless this process is about to end because of its own."""
    return failure() if _code is None else None


def raise_if_others_failed() -> None:
    found = failure_of_others()
    if found is not None:
        raise OthersFailedError(found)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What is raised in here, but for a stop on which all agreed, ends all processes."""
    if not world.joined():
        yield
        return
    try:
        yield
    except OthersFailedError as error:
        leave(error.failure.code, error.failure.described())
    except BaseException as error:
        if not getattr(error, "agreed", False):
            fail_alone(error)
        raise


def _raised(show: Callable, kind: Any, error: BaseException, trace: Any) -> None:
    """What nothing has caught, in a script of the user's own as well, ends all processes."""
    show(kind, error, trace)
    if _code is None and not getattr(error, "agreed", False):
        fail_alone(error, code_of(error) if isinstance(error, KeyboardInterrupt) else FAILED)


def fail_alone(error: BaseException, code: int | None = None) -> None:
    """Tells the others, and keeps this process from waiting for them when it ends."""
    global _code
    _code = code_of(error) if code is None else code
    said = " ".join(str(error).split())[:1000] or type(error).__name__
    tell(Failure(world.index(), said, _code))


@contextlib.contextmanager
def saving(save: Callable[[], None]) -> Iterator[None]:
    """While a run goes on: what is saved where this process must leave, from another thread; what
    that reads changes only in `undisturbed`."""
    global _save
    _save = save
    try:
        yield
    finally:
        with _saving:
            _save = None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Around what must not be cut off: nobody saves or ends this process meanwhile."""
    with _saving:
        yield


@contextlib.contextmanager
def losing_others() -> Iterator[None]:
    """Around an exchange: where it breaks, since a process is gone, this one leaves."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        if not any(word in said.lower() for word in BROKEN):
            raise
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if (found := failure_of_others()) is not None:  # it has said why
                leave(found.code, found.described())
        mine = Failure(
            world.index(), f"an exchange broke, as when a process is gone: {said}", RESTART
        )
        tell(mine)
        leave(RESTART, mine.message)
    with undisturbed():  # who leaves meanwhile saves what stood before: this thread stops here
        pass


def leave(code: int, message: str) -> NoReturn:
    """Ends this process, without waiting for others; what `saving` was given is saved before."""
    if not _leaving.acquire(blocking=False):
        while True:  # another thread is about to end the process
            time.sleep(1)
    _say(f"jaxes: failed: {message}")
    if _saving.acquire(timeout=SAVING) and _save is not None:
        thread = threading.Thread(target=_saved, args=(_save,), daemon=True)
        thread.start()
        thread.join(SAVING)
    _exit(code)


def _saved(save: Callable[[], None]) -> None:
    try:
        save()
    except Exception as error:
        _say(f"jaxes: failed: not saved: {error}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may read it any more
        os.write(_stderr, f"{text}\n".encode())


def end() -> None:
    """At the end of Python: JAX waits for all processes then, but not for those that failed."""
    if _code is not None:
        _leaving.acquire(timeout=SAVING)
        _exit(_code)


def _exit(code: int) -> NoReturn:
    """Without waiting for all others, but the first process ends last: who still hears nothing of
    it when the board is gone is aborted by JAX."""
    try:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            world.post(f"gone/{world.index()}", str(code))
            end = time.monotonic() + LINGERING
            while world.is_first() and time.monotonic() < end:
                if len(world.read_all("gone")) == world.count():
                    break
                time.sleep(0.1)
    finally:
        os._exit(code)
