"""How processes that run as one end together where one of them fails.

Who fails says so on the board; the others look there once a second, and leave with it, since they
would wait for ever in an exchange with a process that is gone. What a supervisor starts again it
sees by the exit code: `RESTART` where a process was lost.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import jax

from jaxes.exits import RESTART, code_of
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


_lock = threading.Lock()  # held by the thread that leaves
_save: Callable[[], None] | None = None
_code: int | None = None  # with which this process ends, where it must not wait for others


def host_of(process: int) -> str:
    """The machine on which a process runs."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # the board may be gone by now
        return world.read(f"host/{process}") or "an unknown host"
    return "an unknown host"


def tell_where() -> None:
    world.post(f"host/{world.index()}", f"{socket.gethostname()} (pid {os.getpid()})")


def failure() -> Failure | None:
    """The first failure of any process."""
    said = world.read("failed")
    return Failure(**json.loads(said)) if said else None


def tell(failure: Failure) -> None:
    """Posts it, unless another one was the first."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        world.post("failed", json.dumps(failure._asdict()))


def raise_if_others_failed() -> None:
    found = failure()
    if found is not None and found.process != world.index():
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


def fail_alone(error: BaseException) -> None:
    """Tells the others, and keeps this process from waiting for them when it ends."""
    global _code
    _code = code_of(error)
    said = " ".join(str(error).split())[:1000] or type(error).__name__
    tell(Failure(world.index(), said, _code))


@contextlib.contextmanager
def losing_others(save: Callable[[], None]) -> Iterator[None]:
    """Around an exchange: where it breaks, since a process is gone, this one saves what `save`
    saves and leaves."""
    global _save
    _save = save
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        leave(RESTART, f"an exchange broke, as when a process is gone: {said}")
    finally:
        _save = None


def leave(code: int, message: str) -> NoReturn:
    """Ends this process at once, without waiting for others; the last finished generation is saved
    before, in the first."""
    if not _lock.acquire(blocking=False):
        time.sleep(2 * SAVING)  # another thread is about to end the process
    print(f"jaxes: failed: {message}", file=sys.stderr, flush=True)
    if _save is not None:
        saving = threading.Thread(target=_saved, args=(_save,), daemon=True)
        saving.start()
        saving.join(SAVING)
    _exit(code)


def _saved(save: Callable[[], None]) -> None:
    try:
        save()
    except Exception as error:
        print(f"jaxes: failed: not saved: {error}", file=sys.stderr, flush=True)


def end(*_: Any) -> None:
    """At the end of Python: JAX waits for all processes then, but not for those that failed."""
    if _code is not None:
        _exit(_code)


def _exit(code: int) -> NoReturn:
    """Without waiting for all others, but the first process ends last: who still hears nothing of
    it when the board is gone is aborted by JAX."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        world.post(f"gone/{world.index()}", str(code))
        end = time.monotonic() + LINGERING
        while world.is_first() and time.monotonic() < end:
            if len(world.read_all("gone")) == world.count():
                break
            time.sleep(0.1)
    os._exit(code)
