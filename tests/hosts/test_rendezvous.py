"""Processes that meet, here as threads of one: all come, or each hears what is wrong."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxes.exits import DidNotMeetError
from jaxes.hosts.launch import free_port
from jaxes.hosts.rendezvous import Place, meet

MET = "met"


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as threads:
        yield threads


def place(port, size, index, address="127.0.0.1"):
    return Place(address, port, size, index)


def said(at, timeout=5.0):
    """What comes of a meeting, in one of its processes."""
    try:
        meet(at, timeout)
    except (ValueError, DidNotMeetError) as error:
        return str(error)
    return MET


@contextlib.contextmanager
def listening(answer):
    """A port at which something else answers whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def serve():
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def connected(port, text):
    """A connection to process 0, which begins to listen about now; the text is sent."""
    end = time.monotonic() + 5
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(text)
            return connection
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_all_meet_in_whatever_order_they_come(port, pool):
    coming = [pool.submit(said, place(port, 4, index)) for index in (2, 1)]
    time.sleep(0.3)  # these find nobody there
    coming += [pool.submit(said, place(port, 4, index)) for index in (0, 3)]
    assert [one.result() for one in coming] == [MET] * 4


def test_who_is_missing_is_named_on_all_sides(port, pool):
    coming = [pool.submit(said, place(port, 4, index), 1) for index in (0, 2)]
    text = "hosts: of 4 processes these did not come within 1 s: 1, 3"
    assert [one.result() for one in coming] == [text] * 2


def test_who_comes_twice_is_refused_and_the_others_meet(port, pool):
    first = pool.submit(said, place(port, 3, 0))
    with connected(port, b"jaxes 3 1\n") as taken:
        again = said(place(port, 3, 1))
        assert again.startswith("hosts: process 1 has come already: it was started twice")
        assert said(place(port, 3, 2)) == first.result() == MET
        assert taken.recv(100) == b"go\n"


def test_another_number_of_processes_is_refused(port, pool):
    first = pool.submit(said, place(port, 2, 0), 1)
    refused = said(place(port, 3, 1))
    expected = "hosts: process 1 says that there are 3 processes, process 0 says 2"
    assert refused.startswith(expected)
    assert first.result() == "hosts: of 2 processes these did not come within 1 s: 1"


def test_a_stranger_is_sent_away_and_the_others_meet(port, pool):
    first = pool.submit(said, place(port, 2, 0))
    with connected(port, b"GET / HTTP/1.0\r\n\r\n") as stranger:
        assert stranger.recv(100).startswith(b"no this is process 0 of jaxes")
    assert said(place(port, 2, 1)) == first.result() == MET


@pytest.mark.parametrize("pause", [1.5, 0.0], ids=["later", "at once"])
def test_who_gives_up_is_not_counted_and_may_come_again(pause, port, pool):
    first = pool.submit(said, place(port, 3, 0))
    with connected(port, b"jaxes 3 1\n"):
        time.sleep(0.3)  # it is taken in
    time.sleep(pause)
    again = pool.submit(said, place(port, 3, 1))
    other = pool.submit(said, place(port, 3, 2))
    assert [one.result() for one in (first, again, other)] == [MET] * 3


def test_who_gives_up_is_missing(port, pool):
    first = pool.submit(said, place(port, 3, 0), 2)
    connected(port, b"jaxes 3 1\n").close()
    other = pool.submit(said, place(port, 3, 2), 2)
    text = "hosts: of 3 processes these did not come within 2 s: 1"
    assert first.result() == other.result() == text


def test_a_port_in_use_is_named():
    with listening(b"") as port:
        text = f"hosts: process 0 cannot listen at port {port}: Address already in use"
        assert said(place(port, 2, 0)) == text


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b""])
def test_something_else_that_listens_is_not_process_0(answer):
    with listening(answer) as port:
        assert said(place(port, 2, 1), 1) == (
            f"hosts: process 0 did not answer at 127.0.0.1:{port} within 1 s (something else "
            "listens there, or the processes have met already)"
        )


def test_nobody_there_is_said(port):
    text = f"hosts: process 0 did not answer at 127.0.0.1:{port} within 1 s (Connection refused)"
    assert said(place(port, 2, 1), 1) == text


def test_an_address_that_does_not_exist_is_named(port):
    told = said(place(port, 2, 1, "nowhere.invalid"), 1)
    expected = f"hosts: process 0 did not answer at nowhere.invalid:{port} within 1 s"
    assert told.startswith(expected)
