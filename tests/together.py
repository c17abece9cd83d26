"""Processes of a script, or of `jaxes`, that run as one on this machine."""

import contextlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from jaxes.hosts.launch import free_port

TIMEOUT = 300
JAXES = ("-m", "jaxes.cli")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Together:
    """Starts `python *command` in so many processes; a context manager that leaves none behind.

    Args:
      command: `{hosts}` and `{index}` in it stand for what `jaxes.use_hosts` takes, and for which
        process it is.
      count: processes; one alone has `off` for hosts.
      settings: of `subprocess.Popen`, such as `cwd`.
    """

    def __init__(self, command, count, **settings):
        port = free_port()
        self._stack = contextlib.ExitStack()
        self._files = []
        self.processes = []
        for index in range(count):
            out, err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
            self._files.append((self._stack.enter_context(out), self._stack.enter_context(err)))
            hosts = f"127.0.0.1:{port},{count},{index}" if count > 1 else "off"
            filled = [
                str(part).replace("{hosts}", hosts).replace("{index}", str(index))
                for part in command
            ]
            self.processes.append(
                subprocess.Popen([sys.executable, *filled], stdout=out, stderr=err, **settings)
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        self._stack.close()

    def ended(self, *which):
        """What these processes came to, by default all."""
        deadline = time.monotonic() + TIMEOUT
        which = which or range(len(self.processes))
        return [self._ended(index, deadline) for index in which]

    def _ended(self, index, deadline):
        code = self.processes[index].wait(max(deadline - time.monotonic(), 1))
        out, err = self._files[index]
        for file in (out, err):
            file.seek(0)
        return Ended(code, out.read(), err.read())


def jaxes(*arguments, count=1, devices=1, **settings):
    """Processes of a command of `jaxes`."""
    own = ["--hosts", "{hosts}", "--cpu-devices", devices]
    return Together([*JAXES, *arguments, *own], count, **settings)


def script(text, *arguments, count=1, **settings):
    """Processes of a script, which is given the hosts before its arguments."""
    return Together(["-c", text, "{hosts}", *arguments], count, **settings)
