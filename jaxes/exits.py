"""Exit codes, as shells and supervisors know them, and which one an exception stands for."""

import errno

from jaxes.interrupt import Terminated

FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143
RESTART = 75  # of many processes one was lost, or did not come
FINAL = (0, BAD_INPUT, INTERRUPTED, TERMINATED)  # after these nothing is started again

DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # these say nothing of the input
BEGUN = "the run had begun"  # a note of an exception: something was touched


class DidNotMeetError(Exception):
    """Of many processes that were to run as one not all came in time."""


def code_of(error: BaseException) -> int:
    """The exit code: input is refused by a ValueError or an OSError before anything is touched."""
    if isinstance(error, KeyboardInterrupt):
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, DidNotMeetError):
        return RESTART
    begun = any(note.startswith(BEGUN) for note in getattr(error, "__notes__", []))
    no_input = isinstance(error, OSError) and error.errno in DISK_FAILS
    refused = isinstance(error, ValueError | OSError) and not begun and not no_input
    return BAD_INPUT if refused else FAILED
