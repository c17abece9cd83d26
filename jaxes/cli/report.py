"""`jaxes report RUN ...`: one page of a run, of runs side by side, or of a sweep."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.cli import common
from jaxes.config.plan import is_plan_run
from jaxes.files import write_whole
from jaxes.terminal import say


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("report", help="a page of runs side by side, or of a sweep")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="of a run or a sweep")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page; default: report.html in RUN, or here where there are several",
    )
    command.add_argument("--no-films", action="store_true", help="leave out the films")
    common.add_jax_options(command, plans=lambda options: any(map(is_plan_run, options.runs)))
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    from jaxes.report.films import films_of
    from jaxes.report.layout import fitted
    from jaxes.report.page import check_output, page_of, to_film  # matplotlib takes a second
    from jaxes.report.runs import read
    from jaxes.report.tables import label, rank, ranking

    paths = options.runs
    sweep = read(paths)
    output = options.output or (paths[0] if len(paths) == 1 else Path()) / "report.html"
    check_output(output, paths)
    ranked = rank(sweep)
    labels = [label(row.values) for row in ranked]
    console.print(fitted(ranking(sweep, ranked), console.width, labels))
    films = []
    if not options.no_films:
        say(console, "filming ...")
        films = films_of(to_film(paths, sweep, ranked))
    write_whole(output, page_of(paths, sweep, ranked, films))
    say(console, f"page: {output}")
    if options.json:
        print(json.dumps({"page": str(output)}))
