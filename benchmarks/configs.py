"""What does each config in configs/ come to, in how many steps and seconds?

Runs each by the command that it is for, `jaxes train`, `sweep` or `plan`, in a fresh run directory
and without programs compiled before. Its row is written as it comes, and is not made again while
the config stays as it is. What needs a GPU runs where there is one, or where it is named.

    python benchmarks/configs.py [--configs hopper,walker2d]
        [--output benchmarks/results/configs-cpu.json]
    python benchmarks/configs.py --write-lines

The first line of a config says what it is, and what it came to: a return, or the lines of a game of
Tetris, as the mean over fresh episodes of this one run with its 95 % interval; of a sweep the
interquartile mean over the seeds of the best configuration. `--write-lines` puts there what the
rows say. Without a row that line says `Not run: REASON`. A test compares lines with rows, and rows
with configs.

Exits with 1 where a command fails.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import machine

from jaxes.config import files
from jaxes.report.runs import read_sweep
from jaxes.report.tables import rank
from jaxes.terminal import format_number
from jaxes.training.identity import read_run
from jaxes.training.metrics import finite
from jaxes.versions import versions

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
RESULTS = ROOT / "benchmarks" / "results"
FIRST_LINE = re.compile(r"# (?P<what>\S.*?)\. (?P<came_to>\S.*)\.")
NOT_RUN = re.compile(r"Not run: \S.*")
NEEDS_GPU = "Not run: needs a GPU"

Row = dict[str, Any]


class Words(NamedTuple):
    """What results, generations and steps are called."""

    result: str
    rounds: str = "generations"
    steps: str = "steps"


WORDS = {
    "train": Words("return {}"),
    "sweep": Words("return {}"),
    "plan": Words("return {}", rounds="trials"),
    "tetris": Words("{} lines a game", steps="pieces"),
}


class Config(NamedTuple):
    """A config as this script sees it.

    Attributes:
      what: the task, the first sentence of its first line.
      came_to: the rest of that line.
      content: all other lines.
    """

    what: str
    came_to: str
    content: str

    @property
    def sha256(self) -> str:
        """Of all but the first line, so that another result is no other config."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def path_of(name: str) -> Path:
    return CONFIGS / f"{name}.yaml"


def names() -> list[str]:
    """Of all configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def read(name: str) -> Config:
    """The config of that name.

    Raises:
      ValueError: its first line has another form.
    """
    first, _, content = path_of(name).read_text(encoding="utf-8").partition("\n")
    match = FIRST_LINE.fullmatch(first)
    if match is None:
        raise ValueError(f"{name}: the first line must be '# WHAT IT IS. CAME TO.', got {first!r}")
    return Config(match["what"], match["came_to"], content)


def command_of(name: str) -> str:
    """The command that the config is for."""
    sections = files.read(path_of(name))
    return "sweep" if "sweep" in sections else "plan" if "planner" in sections else "train"


def words_of(name: str) -> str:
    """Those of `WORDS` in which its result is told."""
    sections = files.read(path_of(name))
    is_tetris = (sections.get("problem") or {}).get("name") == "tetris"
    return "tetris" if is_tetris else command_of(name)


def measure(name: str) -> Row:
    """Runs it, and says what it came to.

    Raises:
      RuntimeError: the command fails.
    """
    command, config = command_of(name), read(name)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = ["jaxes", command, f"configs/{name}.yaml"]
        quiet = ["--json", "--cache-dir", "none"]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "jaxes.cli", *words[1:], *quiet, "--run-dir", str(run_dir)],
            cwd=CONFIGS.parent,
            stdout=subprocess.PIPE,  # what people read goes to stderr, where they see it
            text=True,
            env={name: value for name, value in os.environ.items() if name != PREALLOCATE},
        )
        process_seconds = time.monotonic() - started
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with code {done.returncode}")
        told = json.loads(done.stdout.splitlines()[-1])
        result = of_sweep(told, run_dir) if command == "sweep" else of_run(told)
        devices = len(read_run(run_dir)["devices"].split(", "))
    row = {
        "name": name,
        "sha256": config.sha256,
        "command": " ".join(words),
        "words": words_of(name),
        **finite(result),
        "process_seconds": process_seconds,
        "machine": machine.describe() | {"devices": devices} | versions(["jaxes", "brax"]),
    }
    return row | {"came_to": came_to(row)}


PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"  # this process leaves the GPU's memory to the runs


def of_run(told: Row) -> Row:
    """Of the JSON of `jaxes train` or `plan`."""
    mean, half = told["return_mean"], told["return_ci95"]
    both = None not in (mean, half)
    return {
        "status": told["status"],
        "return_mean": mean,
        "interval": [mean - half, mean + half] if both else None,
        "zero_policy_return": told["zero_policy_return"],
        "test_episodes": told["num_test_episodes"],
        "test_diverged": told["num_test_diverged"],
        "rounds": told["generation"],
        "env_steps": told["env_steps"],
        "seconds": told["seconds"],
        "seconds_with_compilation": told["seconds"] + told["compile_seconds"],
    }


def of_sweep(told: Row, run_dir: Path) -> Row:
    """Of the JSON of `jaxes sweep`, and the ranking in its directory."""
    ranked, trials = rank(read_sweep(run_dir)), told["trials"]
    best = ranked[0]
    return {
        "configurations": len(ranked),
        "seeds": best.num_seeds,
        "best": best.values,
        "return_mean": best.iqm,
        "interval": [best.low, best.high],
        "zero_policy_return": best.zero_policy,
        "test_episodes": sum(trial["num_test_episodes"] for trial in trials),
        "test_diverged": sum(trial["num_test_diverged"] for trial in trials),
        "rounds": max(trial["generation"] for trial in trials),
        "env_steps": sum(trial["env_steps"] for trial in trials),
        "seconds": told["seconds"] - told["compile_seconds"],
        "seconds_with_compilation": told["seconds"],
    }


def came_to(row: Row) -> str:
    """What the first line of this row's config says after what the config is."""
    words = WORDS[row["words"]]
    best = ""
    if "configurations" in row:
        best = f"best of {row['configurations']}, {row['seeds']} seeds each: "
    if row["return_mean"] is None:
        said = f"{best}diverged"
    else:
        among = [f"zero policy {number(row['zero_policy_return'])}"]
        if row["interval"] is not None and None not in row["interval"]:
            among.insert(0, " to ".join(map(number, row["interval"])))
        said = best + words.result.format(number(row["return_mean"])) + f" ({', '.join(among)})"
    if row["test_diverged"]:
        said += f", {row['test_diverged']} of {row['test_episodes']} test episodes diverged"
    if row.get("status") == "target":
        said += ", target reached"
    count = row["env_steps"]
    steps = f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}"
    without, whole = (short(row[name]) for name in ("seconds", "seconds_with_compilation"))
    seconds = f"{without} s, {whole} s with compilation"
    spent = f"{row['rounds']:,} {words.rounds} and {steps} {words.steps} in {seconds}"
    return f"{said[0].upper()}{said[1:]} after {spent}, on {machine.place(row['machine'])}"


def short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


def number(value: float) -> str:
    return "?" if value is None else format_number(value)


def rows_of_all() -> list[Row]:
    """What has been measured, on any device."""
    return [row for path in sorted(RESULTS.glob("configs-*.json")) for row in machine.rows_of(path)]


def faults(rows: Sequence[Row]) -> list[str]:
    """What is wrong with configs and these rows of them, a sentence each."""
    found = [f"{name}: a row of no config" for name in {row["name"] for row in rows} - {*names()}]
    for name in names():
        config, mine = read(name), [row for row in rows if row["name"] == name]
        if not mine and not NOT_RUN.fullmatch(config.came_to):
            found.append(f"{name}: has no row, so that its line must say 'Not run: REASON'")
        if any(row["sha256"] != config.sha256 for row in mine):
            found.append(f"{name}: is another config than was run: --configs {name}")
        if mine and config.came_to not in map(came_to, mine):
            found.append(f"{name}: its first line says something else than its row: --write-lines")
    return found


def write_lines(rows: Sequence[Row]) -> None:
    """Into the configs that the rows are of."""
    there = names()
    for row in rows:
        if row["name"] not in there:
            print(f"{row['name']}: a row of no config", file=sys.stderr)
            continue
        config = read(row["name"])
        if config.sha256 == row["sha256"]:
            text = f"# {config.what}. {came_to(row)}.\n{config.content}"
            path_of(row["name"]).write_text(text, encoding="utf-8")
        else:
            print(f"{row['name']}: another config than was run, left as it is", file=sys.stderr)


def runs_on(backend: str) -> list[str]:
    """The configs that run where JAX has this backend, by what their first lines or their rows
    say."""
    if backend != "cpu":
        return names()
    elsewhere = {row["name"] for row in rows_of_all() if row["machine"]["device"] != "cpu"}
    return [
        name
        for name in names()
        if name not in elsewhere and not read(name).came_to.startswith(NEEDS_GPU)
    ]


def run(chosen: Sequence[str], output: Path) -> list[str]:
    """Adds the rows of these configs that are not there.

    Returns:
      What failed, a sentence each.
    """
    failed = []
    for name in chosen:
        rows = machine.rows_of(output)
        if any((row["name"], row["sha256"]) == (name, read(name).sha256) for row in rows):
            continue
        try:
            new = measure(name)
        except RuntimeError as error:
            failed.append(str(error))
            continue
        print(f"{name}: {new['came_to']}", flush=True)
        others = [row for row in rows if row["name"] != name]
        machine.write(output, rows=sorted([*others, new], key=lambda row: row["name"]))
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    os.environ.setdefault(PREALLOCATE, "false")
    backend = jax.default_backend()
    parser = machine.parser(__doc__)
    parser.add_argument(
        "--configs",
        type=machine.some_of(names()),
        help="default: all, but for what needs a GPU where none is",
    )
    parser.add_argument("--output", type=Path, default=RESULTS / f"configs-{backend}.json")
    parser.add_argument("--write-lines", action="store_true", help="and run nothing")
    options = parser.parse_args(arguments)
    if options.write_lines:
        if options.configs:
            parser.error("--write-lines: writes those of all rows, without --configs")
        write_lines(machine.rows_of(options.output))
        return
    failed = run(options.configs or runs_on(backend), options.output)
    for what in failed:
        print(what, file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
