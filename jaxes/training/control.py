"""Ctrl-C and SIGTERM as requests to stop."""

import contextlib
import signal
import sys
import threading
from typing import Any, Self


class Interrupt:
    """Once armed, the first Ctrl-C or SIGTERM is a request to stop; a second one is immediate.

    Until then, while there is nothing to save, they do what they always do.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def arm(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in {signal.SIGINT, signal.SIGTERM} - self._previous.keys():
                self._previous[signum] = signal.signal(signum, self._request)

    def _request(self, signum: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt("stopped at once")
        self.requested = True
        with contextlib.suppress(OSError):
            sys.stderr.write("\nstopping after this chunk; once more to stop at once\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
