"""`jaxes watch RUN`: another process's run or sweep, look by look."""

import argparse
import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from jaxes.terminal import say
from jaxes.training.followed import is_running
from jaxes.training.identity import read_run

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 5.0


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("watch", help="follow a run or sweep from another terminal")
    command.add_argument("run", type=Path, help="the directory of a run or a sweep")
    command.add_argument("--once", action="store_true", help="look once and end")
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    from jaxes.report.watch import Watched

    path = options.run
    if not path.is_dir():
        raise ValueError(f"run: there is no directory {path}")
    if is_running(path) is False:
        read_run(path)  # refused where it is no run, and nobody is about to make it one
    watched = Watched(path)
    with _shown(console) as show:
        while True:
            goes_on = is_running(path) is not False  # asked first, or its last rows could be missed
            show(look := watched.look(), options.once or not goes_on)
            if options.once or not goes_on:
                break
            sleep(SECONDS_BETWEEN_LOOKS)
    if not goes_on:
        say(console, _end(look, path))


@contextlib.contextmanager
def _shown(console: Console) -> Iterator[Callable[[Any, bool], None]]:
    """`(look, last)` shows it: in its place on a terminal, line by line elsewhere."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda look, last: live.update(_in_place(look, console), refresh=True)
    else:
        yield _Lines(console)


def _in_place(look: Any, console: Console) -> Group:
    grid = Table.grid(padding=(0, 2))
    for name, said in look.told.items():
        grid.add_row(name, said)
    return Group(grid, *look.tables(console.width))


class _Lines:
    """A line a look in which there was something new, every few seconds; tables with the last."""

    def __init__(self, console: Console):
        self._console = console
        self._last = -SECONDS_BETWEEN_LINES

    def __call__(self, look: Any, last: bool) -> None:
        due = look.new and monotonic() - self._last >= SECONDS_BETWEEN_LINES
        if due or last:
            self._last = monotonic()
            say(self._console, "  ".join(f"{name} {said}" for name, said in look.told.items()))
        if last:
            for table in look.tables(self._console.width):
                self._console.print(table)


def _end(look: Any, path: Path) -> str:
    if not look.can_go_on:
        return "it has ended"
    by_config = f"; go on with: jaxes resume {shlex.quote(str(path))}"
    return "no process runs it" + by_config * (path / "config.yaml").exists()
