"""What do evolution strategies reach on Brax's tasks, after how many steps and seconds?

    python benchmarks/table.py search --tasks hopper --strategies ars [--steps 2e6] [--seeds 2]
        [--networks linear,mlp16]
    python benchmarks/table.py train --tasks hopper --strategies openai_es [--steps 20e6]
        [--seeds 5] [--runs runs/table]
    python benchmarks/table.py collect runs/table [--searches runs/search] [--whole runs/ppo_whole]
        [--output benchmarks/results/table-cpu.json]
    python benchmarks/table.py film runs/table [--films docs/films]
    python benchmarks/table.py draw [benchmarks/results/table-cpu.json] [--output FILE]

search   trains over sigma, learning rate and network with seeds that the table has not; what it
         finds goes by hand into `table_settings.py`, what it cost into the result
train    all seeds of a task and a strategy as one sweep, until each has spent its budget of steps.
         Killed, and started again, it goes on; what is finished is left as it is
collect  adds the rows of finished directories to the result, `ppo.py`'s among them. One that is
         cut, of another protocol or another number of seeds is named on stderr and left out; it
         exits with 1 then
film     an episode of the best seed of each task, as the site shows it
draw     the result as Markdown

The protocol is that of `table_settings.py`: the same environment, episodes and tests for all. Steps
are those of training, in episodes; seconds are a seed's share of its program's, by its steps, with
tests and without compilation.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import machine
import table_rows
import table_search
import table_text
from table_films import filmed
from table_rows import merged
from table_runs import RefusedError, check_number, directories, row_of
from table_search import search
from table_settings import GRIDS, NETWORKS, SETTINGS, TASKS
from table_train import train

import jaxes
from jaxes.files import read_json
from jaxes.training.metrics import finite

OUTPUT = Path("benchmarks/results/table-cpu.json")


def collect(options: argparse.Namespace) -> int:
    """Adds rows to the result; how many directories were refused."""
    known = table_rows.read(options.output) if options.output.exists() else {}
    whole = whole_of(options.whole) or known.get("whole")
    if (old := known.get("whole", whole)) != whole:
        print(f"PPO is whole by {whole}, in place of {old}")
    new, refused = {}, {}
    found = runs_below("runs", options.runs)
    searched = [] if options.searches is None else runs_below("--searches", options.searches)
    for path in found:
        try:
            new[str(path)] = row_of(path, options.seeds, options.steps)
        except RefusedError as error:
            refused[str(path)] = str(error)
    before = {(row["task"], row["algorithm"]): dict(row) for row in known.get("rows", [])}
    rows, left_out = merged(known.get("rows", []), new)
    for row in rows:  # what pages cite: interquartile means, and the ends of the interval
        row["end"] = [finite(value) for value in table_text.end(row)]
        row["zero"] = finite(table_text.zero_policy([row]).middle)
        old = before.get((row["task"], row["algorithm"]), row)
        if changed := [field for field in row if row[field] != old.get(field)]:
            name = f"{row['task']} by {row['algorithm']}"
            ends = f"{row['end'][0]}, in place of {old.get('end', [None])[0]}"
            print(f"{name}: {ends} (changed: {', '.join(changed)})")
    searches, unfinished = table_search.collected(searched, known.get("searches", []))
    refused |= unfinished | left_out
    for path, why in refused.items():
        print(f"left out: {path} {why}", file=sys.stderr)
    if rows:
        about = {"machine": rows[0]["machine"]}  # of the first one; each has its own
        content = {"rows": rows, "searches": searches, "films": known.get("films", {})}
        if whole is not None:
            content["whole"] = whole
        table_rows.write(options.output, about | content)
    where = f"{len(rows)} in {options.output}" if rows else "nothing is written"
    print(f"{len(new) - len(left_out)} rows collected, {where}")
    return len(refused)


def runs_below(field: str, folder: Path) -> list[Path]:
    """The directories of runs there; exits where there are none."""
    return directories(folder) or sys.exit(f"{field}: {folder} holds no runs")


def whole_of(path: Path | None) -> dict[str, Any] | None:
    """What `ppo.py` wrote about being whole, if that is given."""
    if path is None:
        return None
    file = path / "whole.json"
    about = read_json(file, {"backend": str, "steps": int, "returns": list})
    try:
        for value in about["returns"]:
            check_number("a return", value)
    except RefusedError as error:
        raise ValueError(f"{file} {error}") from error
    return about


def film(options: argparse.Namespace) -> None:
    """Adds films to the result, each as it comes."""
    runs_below("runs", options.runs)
    for task in TASKS:
        rows = table_rows.read(options.output)["rows"]
        if (shown := filmed(task, rows, options.runs, options.films)) is not None:
            result = table_rows.read(options.output)  # others may have added to it
            result["films"][task] = shown
            table_rows.write(options.output, result)


def draw(options: argparse.Namespace) -> None:
    text = table_text.drawn(table_rows.read(options.result), str(options.result))
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text)


def for_each(options: argparse.Namespace) -> None:
    """Searches or trains, one task and strategy after another."""
    for task in options.tasks:
        for name in options.strategies or ():
            if name not in SETTINGS[task]:
                there = ", ".join(SETTINGS[task])
                sys.exit(f"--strategies: {task} has settings of {there}, not of {name}")
    jaxes.use_cpu_devices(options.cpu_devices)
    for task in options.tasks:
        for name in options.strategies or SETTINGS[task]:
            steps = options.steps or TASKS[task].steps
            folder = options.runs / task / name
            if options.command == "search":
                search(task, name, folder, steps, options.seeds, options.networks)
            else:
                train(task, name, folder, steps, options.seeds)


def parse() -> argparse.Namespace:
    parser = machine.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, runs, seeds, steps, told in [
        ("search", "runs/search", 2, 2_000_000, "default: 2e6"),
        ("train", "runs/table", 5, None, "default: the task's"),
    ]:
        one = commands.add_parser(command)
        one.add_argument("--tasks", type=machine.some_of(TASKS), default=list(TASKS))
        one.add_argument(
            "--strategies",
            type=machine.some_of(GRIDS),
            help="default: all that the task has settings of",
        )
        one.add_argument("--steps", type=machine.count, default=steps, help=told)
        one.add_argument("--seeds", type=machine.count, default=seeds)
        one.add_argument("--runs", type=Path, default=Path(runs))
        one.add_argument("--cpu-devices", type=machine.count)
        if command == "search":
            one.add_argument("--networks", type=machine.some_of(NETWORKS), default=list(NETWORKS))
    collects = commands.add_parser("collect")
    collects.add_argument("runs", type=Path)
    collects.add_argument("--searches", type=Path)
    collects.add_argument("--whole", type=Path)
    collects.add_argument("--steps", type=machine.count, help="of all tasks; default: each task's")
    collects.add_argument("--seeds", type=machine.count, default=5)
    collects.add_argument("--output", type=Path, default=OUTPUT)
    films = commands.add_parser("film")
    films.add_argument("runs", type=Path)
    films.add_argument("--films", type=Path, default=Path("docs/films"))
    films.add_argument("--output", type=Path, default=OUTPUT)
    draws = commands.add_parser("draw")
    draws.add_argument("result", type=Path, nargs="?", default=OUTPUT)
    draws.add_argument("--output", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.command in ("search", "train"):
        for_each(options)
        return
    try:
        refused = {"collect": collect, "film": film, "draw": draw}[options.command](options)
    except (ValueError, OSError) as error:  # which says what is wrong with a file
        sys.exit(str(error))
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
