"""Requests to stop: Ctrl-C, SIGTERM, and what a callback answers."""

import contextlib
import os
import signal
import threading
from typing import Any, NoReturn, Self

import numpy as np

from jaxes.checks import check


class Terminated(KeyboardInterrupt):
    """A stop that SIGTERM asked for."""


class Interrupt:
    """Once armed, the first Ctrl-C or SIGTERM is a request to stop; a second one is immediate.

    Until then, while there is nothing to save, they do what they always do.
    """

    def __init__(self) -> None:
        self.heard = 0  # the signal; 0 for none
        self._previous: dict[int, Any] = {}

    @property
    def asked(self) -> int:
        """The signal that is obeyed: the one heard here."""
        return self.heard

    @property
    def requested(self) -> bool:
        return self.asked != 0

    def arm(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in {signal.SIGINT, signal.SIGTERM} - self._previous.keys():
                self._previous[signum] = signal.signal(signum, self._request)

    def _request(self, signum: int, frame: Any) -> None:
        if self.heard:
            raise _kind_of(signum)("stopped at once")
        self.heard = signum
        with contextlib.suppress(OSError):
            # Not through sys.stderr, whose own write may be what is interrupted.
            os.write(2, b"\nstopping after this chunk; once more to stop at once\n")

    def stop(self, message: str) -> NoReturn:
        """Raises what was asked for: KeyboardInterrupt, or Terminated. It is `agreed`: processes
        that run as one raise it together."""
        interrupt = _kind_of(self.asked)(message)
        interrupt.agreed = True  # type: ignore[attr-defined]
        raise interrupt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)


def _kind_of(signum: int) -> type[KeyboardInterrupt]:
    return Terminated if signum == signal.SIGTERM else KeyboardInterrupt


def answer(returned: Any) -> bool:
    """What a callback said: True to stop.

    Raises:
      ValueError: it is no answer; a number that happens to be true must not end a run.
    """
    known = returned is None or isinstance(returned, bool | np.bool_)
    check("callback", returned, known, "a function to True, which stops, or False or None")
    return bool(returned)
