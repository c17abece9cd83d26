"""`jaxes report RUN`: of a sweep, or of a run alone."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.terminal import say
from jaxes.training.metrics import read_rows


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("report", help="rank and plot a sweep, or plot a run")
    command.add_argument("run", type=Path, help="the directory of a sweep or of a run")
    command.add_argument("--output", type=Path, help="of the plots; default: RUN/report")
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    from jaxes.report.plots import draw, of_run  # matplotlib takes a second
    from jaxes.report.tables import rank, read_sweep, table

    output = options.output or options.run / "report"
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output: {output} is not a directory")
    if (options.run / "metrics.jsonl").exists():
        say(console, str(of_run(read_rows(options.run / "metrics.jsonl")[0], output)))
        return
    sweep = read_sweep(options.run)
    ranked = rank(sweep)
    console.print(table(sweep, ranked))
    for path in draw(sweep, ranked, output):
        say(console, str(path))
