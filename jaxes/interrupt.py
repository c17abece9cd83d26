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
        self.requested = False
        self._kind = KeyboardInterrupt
        self._previous: dict[int, Any] = {}

    def arm(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in {signal.SIGINT, signal.SIGTERM} - self._previous.keys():
                self._previous[signum] = signal.signal(signum, self._request)

    def _request(self, signum: int, frame: Any) -> None:
        self._kind = Terminated if signum == signal.SIGTERM else KeyboardInterrupt
        if self.requested:
            raise self._kind("stopped at once")
        self.requested = True
        with contextlib.suppress(OSError):
            # Not through sys.stderr, whose own write may be what is interrupted.
            os.write(2, b"\nstopping after this chunk; once more to stop at once\n")

    def stop(self, message: str) -> NoReturn:
        """Raises what was asked for: KeyboardInterrupt, or Terminated."""
        raise self._kind(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)


def answer(returned: Any) -> bool:
    """What a callback said: True to stop.

    Raises:
      ValueError: it is no answer; a number that happens to be true must not end a run.
    """
    known = returned is None or isinstance(returned, bool | np.bool_)
    check("callback", returned, known, "a function to True, which stops, or False or None")
    return bool(returned)
