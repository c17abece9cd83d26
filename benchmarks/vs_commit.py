"""Is a commit as fast as another one, as small, and as fast to compile?

    python benchmarks/vs_commit.py OLD NEW [--pairs 20] [--compilations 5]
        [--programs hopper-256,hopper-2048,sweep-16] [--output FILE]
    python benchmarks/vs_commit.py OLD --new-tree .

Each commit has a worktree and processes of its own (`timed_programs.py`). Reported are, all new
over old:

hlo           instructions of the compiled program, exactly
temp_bytes    bytes of its temporaries, exactly
compile       seconds to trace and compile it, in fresh processes without a cache of compiled
              programs, alternated
speed         environment steps a second: alternated chunks of two processes that live on and of
              which one works at a time, the order swapped every other pair

Of the last two it is the median of the pairs' ratios, with its bootstrap interval of 95 %; the bar
is missed where the whole interval lies beyond it. The machine's load (1 minute) is noted with each
pair: the pair itself makes one of a few cores. Rows are written as they come, and a second run of
the same commits goes on where the first was. Exits with 1 where a bar is missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import commits
import machine
import numpy as np

OUTPUT = Path(__file__).with_name("results") / "vs-commit-cpu.json"
SIDES = ("old", "new")
PROGRAMS = ("hopper-256", "hopper-2048", "hopper-2048-unnormalized", "sweep-16")
NO_BAR = ("hopper-2048-unnormalized",)  # meant to become faster and another program
SIZE_BAR = COMPILE_BAR = 1.02  # at most
SPEED_BAR = 0.97  # at least
RESAMPLES = 10_000


class Process:
    """A process of `timed_programs.py` by one tree."""

    def __init__(self, tree: Path, stack: contextlib.ExitStack):
        self._process = subprocess.Popen(
            commits.command("timed_programs.py"),
            env=commits.environment(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self._end)

    def ask(self, what: str, program: str) -> dict[str, Any]:
        """Raises a SystemExit where the process has failed; it has said why."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{what} {program}\n")
            self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise SystemExit(f"{what} {program}: exit code {self._process.wait()}")
        return json.loads(answer)

    def _end(self) -> None:
        self._process.terminate()
        self._process.communicate()


class Rows:
    """All that was measured of these two commits, kept in a file."""

    def __init__(self, output: Path, about: dict[str, Any], again: bool):
        self._output, self._about = output, about
        self.rows: list[dict[str, Any]] = []
        if output.exists() and not again:
            kept = json.loads(output.read_text())
            now = machine.describe()
            if kept["machine"] == now and all(kept.get(name) == about[name] for name in about):
                self.rows = kept["rows"]

    def of(self, kind: str, program: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if (row["kind"], row["program"]) == (kind, program)]

    def add(self, **row: Any) -> None:
        self.rows.append(row | {"load": os.getloadavg()[0]})
        self.write()

    def write(self, **more: Any) -> None:
        machine.write(self._output, **self._about, rows=self.rows, **more)


def in_turn(number: int) -> tuple[str, ...]:
    return SIDES if number % 2 == 0 else SIDES[::-1]


def compilations(rows: Rows, trees: dict[str, Path], programs: list[str], count: int) -> None:
    """Fresh processes, each of which compiles all programs."""
    for number in range(min(len(rows.of("compile", name)) for name in programs), count):
        found: dict[str, dict[str, Any]] = {name: {} for name in programs}
        for side in in_turn(number):
            with contextlib.ExitStack() as stack:
                process = Process(trees[side], stack)
                for name in programs:
                    found[name][side] = process.ask("compile", name)
        for name in programs:
            if len(rows.of("compile", name)) <= number:
                rows.add(kind="compile", program=name, **found[name])
            seconds = [found[name][side]["seconds"] for side in SIDES]
            print(f"{name}: compiled in {seconds[0]:.1f} and {seconds[1]:.1f} s", flush=True)


def chunks(rows: Rows, trees: dict[str, Path], program: str, pairs: int) -> None:
    """Alternated chunks of two processes that live on."""
    done = len(rows.of("speed", program))
    if done >= pairs:
        return
    with contextlib.ExitStack() as stack:
        processes = {side: Process(trees[side], stack) for side in SIDES}
        for process in processes.values():
            process.ask("run", program)  # compiles, and warms up
        for number in range(done, pairs):
            found = {side: processes[side].ask("run", program) for side in in_turn(number)}
            rows.add(kind="speed", program=program, **found)


def with_interval(ratios: list[float]) -> dict[str, Any]:
    """The median, and its bootstrap interval of 95 %."""
    chosen = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = np.median(np.asarray(ratios)[chosen], axis=1)
    interval = np.quantile(medians, [0.025, 0.975]).tolist()
    return {"ratio": statistics.median(ratios), "interval": interval, "pairs": len(ratios)}


def exact(pair: dict[str, Any], measure: str) -> dict[str, Any]:
    """What has no noise: new over old of the first compilation."""
    old, new = (pair[side][measure] for side in SIDES)
    missed = new > SIZE_BAR * old
    ratio = new / old if old else float(new == old)
    return {"measure": measure, "ratio": ratio, "old": old, "new": new, "missed": missed}


def timed(measure: str, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of compilation, or steps a second, of all pairs."""

    def number(row: dict[str, Any]) -> float:
        return row["seconds"] if measure == "compile" else row["steps"] / row["seconds"]

    found = with_interval([number(pair["new"]) / number(pair["old"]) for pair in pairs])
    low, high = found["interval"]
    missed = low > COMPILE_BAR if measure == "compile" else high < SPEED_BAR
    medians = {side: statistics.median(number(pair[side]) for pair in pairs) for side in SIDES}
    load = statistics.median(pair["load"] for pair in pairs)
    return {"measure": measure} | found | medians | {"load": load, "missed": missed}


def summary(rows: Rows, programs: list[str]) -> list[dict[str, Any]]:
    """What was measured of each program, and whether it misses its bar."""
    found = []
    for program in programs:
        compiled, run = rows.of("compile", program), rows.of("speed", program)
        each = (
            [exact(compiled[0], measure) for measure in ("hlo", "temp_bytes")] if compiled else []
        )
        each += [timed("compile", compiled)] if compiled else []
        each += [timed("speed", run)] if run else []
        for row in each:
            row["missed"] = row["missed"] and program not in NO_BAR
            found.append({"program": program} | row)
    return found


def show(row: dict[str, Any]) -> None:
    text = f"{row['program']:25s} {row['measure']:10s} {row['ratio']:6.3f}"
    if "interval" in row:
        low, high = row["interval"]
        text += f" ({low:.3f} to {high:.3f}, {row['pairs']} pairs, load {row['load']:.1f})"
    missed = "  MISSED" if row["missed"] else ""
    print(f"{text}  {row['old']:,.1f} and {row['new']:,.1f}{missed}")


def arguments() -> argparse.Namespace:
    parser = machine.parser(__doc__)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--new-tree", type=Path, help="a folder in place of the new commit")
    parser.add_argument("--pairs", type=machine.count, default=20)
    parser.add_argument("--compilations", type=machine.count, default=5)
    parser.add_argument("--programs", type=machine.some_of(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--again", action="store_true", help="leave out what the output has")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if (options.new is None) == (options.new_tree is None):
        parser.error("one of NEW and --new-tree is required")
    return options


def main() -> None:
    options = arguments()
    old = commits.full_hash(options.old)
    new = "the working tree" if options.new is None else commits.full_hash(options.new)
    again = options.again or options.new is None  # a folder may have changed
    about = {"old": old, "new": new, "cpu_devices": len(os.sched_getaffinity(0))}
    rows = Rows(options.output, about, again)
    with contextlib.ExitStack() as stack:
        trees = {"old": stack.enter_context(commits.worktree(old))}
        if options.new_tree:
            trees["new"] = options.new_tree.resolve()
        else:
            trees["new"] = stack.enter_context(commits.worktree(new))
        compilations(rows, trees, options.programs, options.compilations)
        for program in options.programs:
            chunks(rows, trees, program, options.pairs)
    found = summary(rows, options.programs)
    for row in found:
        show(row)
    rows.write(summary=found)
    missed = sum(row["missed"] for row in found)
    print(f"{missed} bars missed")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
