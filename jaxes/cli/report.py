"""`jaxes report SWEEP`."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.terminal import say


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("report", help="rank and plot the configurations of a sweep")
    command.add_argument("sweep", type=Path, help="the directory of a sweep")
    command.add_argument("--output", type=Path, help="of the plots; default: SWEEP/report")
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    from jaxes.report.plots import draw  # matplotlib takes a second
    from jaxes.report.tables import rank, read_sweep, table

    output = options.output or options.sweep / "report"
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is not a directory")
    sweep = read_sweep(options.sweep)
    ranked = rank(sweep)
    console.print(table(sweep, ranked))
    for path in draw(sweep, ranked, output):
        say(console, str(path))
