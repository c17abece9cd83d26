"""Before JAX connects processes: do they all come, and each once?

JAX aborts a process whose others do not come, and so says nothing that a user could act on. So the
first process listens at its port, the others say there who they are, and when all have come it lets
them go, and gives the port to JAX.
"""

import contextlib
import os
import socket
import time
from typing import NamedTuple

from jaxes.exits import DidNotMeetError

HELLO = b"jaxes"
ANSWER_SECONDS = 5.0  # in which who connects must say who it is
LONGEST = 500  # bytes of what one says


class Place(NamedTuple):
    """Where the first process listens, how many there are, and which this is."""

    address: str
    port: int
    size: int
    place: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


def meet(place: Place, timeout: float) -> None:
    """Returns when all processes have come.

    Raises:
      ValueError: this one is refused, or its port is in use.
      DidNotMeetError: they did not within `timeout` seconds.
    """
    end = time.monotonic() + timeout
    if place.place == 0:
        with _listening(place) as server:
            _gather(server, place, end, timeout)
    else:
        _ask(place, end, timeout)


def _listening(place: Place) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", place.port), family=family, dualstack_ipv6=both)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        text = f"hosts: process 0 cannot listen at port {place.port}: {reason}"
        raise ValueError(text) from error


def _gather(server: socket.socket, place: Place, end: float, timeout: float) -> None:
    """In the first process."""
    come: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while len(come) < place.size - 1:
            if time.monotonic() > end:
                missing = [i for i in range(1, place.size) if i not in come]
                listed = ", ".join(map(str, missing[:10])) + ", ..." * (len(missing) > 10)
                reason = f"of {place.size} processes these did not come within {timeout:.0f} s: "
                _answer(come, f"late {reason}{listed}")
                raise DidNotMeetError(f"hosts: {reason}{listed}")
            server.settimeout(1)
            with contextlib.suppress(TimeoutError):
                connection, (address, *_) = server.accept()
                stack.callback(connection.close)
                refusal = _welcome(connection, place, come)
                if refusal:
                    _answer({0: connection}, f"no {refusal} (said to {address})")
            for index in [index for index, one in come.items() if _gone(one)]:
                del come[index]
        _answer(come, "go")


def _welcome(connection: socket.socket, place: Place, come: dict[int, socket.socket]) -> str | None:
    """Takes a process in, or says why not."""
    said = _line(connection, ANSWER_SECONDS).split()
    if len(said) != 3 or said[0] != HELLO or not (said[1] + said[2]).isdigit():
        return "this is process 0 of jaxes, which waits for its own"
    size, index = int(said[1]), int(said[2])
    if size != place.size:
        return f"process {index} says that there are {size} processes, process 0 says {place.size}"
    if (index in come and not _gone(come[index])) or index == 0:
        return f"process {index} has come already: it was started twice"
    come[index] = connection
    return None


def _ask(place: Place, end: float, timeout: float) -> None:
    """In the others."""
    reason = "no answer"
    while time.monotonic() < end:
        try:
            address = (place.address, place.port)
            with socket.create_connection(address, ANSWER_SECONDS) as connection:
                connection.sendall(HELLO + f" {place.size} {place.place}\n".encode())
                waiting = max(end - time.monotonic(), 0) + ANSWER_SECONDS
                said = _line(connection, waiting).decode(errors="replace")
        except OSError as error:
            reason = error.strerror or "no answer"
            time.sleep(0.2)
            continue
        if said == "go":
            return
        if said.startswith("no "):
            raise ValueError(f"hosts: {said[3:]}")
        if said.startswith("late "):
            raise DidNotMeetError(f"hosts: {said[5:]}")
        reason = "something else listens there, or the processes have met already"
        time.sleep(0.2)
    raise DidNotMeetError(
        f"hosts: process 0 did not answer at {place} within {timeout:.0f} s ({reason})"
    )


def _answer(come: dict[int, socket.socket], text: str) -> None:
    for connection in come.values():
        with contextlib.suppress(OSError):
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(f"{text}\n".encode())


def _line(connection: socket.socket, seconds: float) -> bytes:
    """The first line that comes, or what there is of it."""
    connection.settimeout(seconds)
    said = b""
    with contextlib.suppress(OSError):
        while not said.endswith(b"\n") and len(said) < LONGEST:
            part = connection.recv(LONGEST)
            if not part:
                break
            said += part
    return said.strip()


def _gone(connection: socket.socket) -> bool:
    """Whether the other side has closed it."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
