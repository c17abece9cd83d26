"""Many processes on one machine, as a cluster's launcher starts them on many."""

import contextlib
import ctypes
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from jaxes.devices import num_cores
from jaxes.exits import FINAL, RESTART
from jaxes.hosts.leaving import SAVING

GRACE = 5.0  # seconds in which the others end by themselves after the first process
LONG_GRACE = SAVING + 10.0  # after another one, while the first saves
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
# Looked up here: between the start of a process and its program nothing may be loaded.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
# What the runtime prints of itself when it aborts a process.
FRAMES = re.compile(rb" +@ +0x|\*\*\* (Check failure|SIGABRT)")


class Launcher:
    """Starts a command of jaxes in `count` processes, again after a failure where that is asked
    for, and passes on what they say and what this one is asked.

    Args:
      command: arguments of `jaxes`.
      count: processes.
      restarts: how many times to start again after a failure.
      cpu_devices: of each process; by default an equal share of the cores, at least one.
      say: what is told of processes.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        restarts: int = 0,
        cpu_devices: int | None = None,
        say: Callable[[str], None] = print,
    ):
        self.command = command
        self.count = count
        self.restarts = restarts
        self.cpu_devices = cpu_devices or max(1, num_cores() // count)
        self.say = say
        self.asked = 0  # by which signal to end
        self._processes: list[subprocess.Popen] = []

    def run(self) -> int:
        """Until all have ended; their exit code."""
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self._pass_on) for number in signals}
        try:
            for attempt in range(self.restarts + 1):
                code = self._run_once(resume=attempt > 0)
                if code in FINAL or self.asked or attempt == self.restarts:
                    return code
                self.say(f"starting again ({attempt + 1} of {self.restarts})")
            return code
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: object) -> None:
        self.asked = number
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def _run_once(self, resume: bool) -> int:
        port = free_port()
        self._processes = []
        for index in range(self.count):
            self._processes.append(self._start(index, port, resume))
        if self.asked:  # while they were started, or between two attempts
            self._pass_on(self.asked, None)
        readers = [
            threading.Thread(target=_copy, args=(stream, to, index), daemon=True)
            for index, process in enumerate(self._processes)
            for stream, to in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        ]
        for reader in readers:
            reader.start()
        codes = self._wait()
        for reader in readers:
            reader.join(timeout=5)
        return self._code_of(codes)

    def _start(self, index: int, port: int, resume: bool) -> subprocess.Popen:
        hosts = f"127.0.0.1:{port},{self.count},{index}"
        own = ["--hosts", hosts, "--cpu-devices", str(self.cpu_devices)]
        again = ["--resume"] if resume and self.command[0] != "resume" else []
        return subprocess.Popen(
            [sys.executable, "-m", "jaxes.cli", *self.command, *own, *again],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C comes to this process, which passes it on
            preexec_fn=_end_with_parent,
        )

    def _wait(self) -> list[int]:
        """The exit codes of all. Once one has ended, the others have a while, and are killed: a
        stopped process hears nothing else."""
        ends: dict[int, float] = {}
        while len(ends) < self.count:
            time.sleep(0.05)
            now = time.monotonic()
            for index, process in enumerate(self._processes):
                if index not in ends and (code := process.poll()) is not None:
                    ends[index] = now
                    if code not in FINAL:
                        self.say(f"process {index} {said_of(code)}")
            late = 0 in ends and now - ends[0] > GRACE
            late |= bool(ends) and now - min(ends.values()) > LONG_GRACE
            failed = any(self._processes[index].returncode != 0 for index in ends)
            if late and failed:
                for index in range(self.count):
                    if index not in ends:
                        self._processes[index].kill()
        return [process.returncode for process in self._processes]

    def _code_of(self, codes: Sequence[int]) -> int:
        """One for all: what a process was refused for, or asked, comes before what others made of
        its end; then a failure."""
        bad = [code for code in codes if code != 0]
        if not bad:
            return 0
        if (final := next((code for code in bad if code in FINAL), None)) is not None:
            return final
        if self.asked and all(code == -self.asked for code in bad):
            return 128 + self.asked
        return next((code for code in bad if code > 0 and code not in (RESTART, 134)), RESTART)


def _end_with_parent() -> None:
    """On Linux: this process gets SIGTERM where the one that starts it dies."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def said_of(code: int) -> str:
    """What an exit code says."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _copy(stream: IO[bytes], to: IO[str], index: int) -> None:
    """Line by line; those of processes after the first say whose they are."""
    mark = f"[{index}] ".encode() if index else b""
    for line in stream:
        if FRAMES.match(line):
            continue
        with contextlib.suppress(ValueError, OSError):
            to.buffer.write(mark + line)  # type: ignore[attr-defined]
            to.flush()
