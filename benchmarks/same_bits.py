"""Do two commits compute the same, to the last bit?

    python benchmarks/same_bits.py OLD NEW [--cases cartpole,sweep-config] [--devices 1,2]
        [--output benchmarks/results/same-bits.json]
    python benchmarks/same_bits.py OLD --new-tree .

Runs the cases of `recorded_cases.py` by both commits, each in a worktree and processes of its own,
on each number of devices, and cut in two and resumed; then compares sha256 of every metric at
every generation, but for times and the lanes' utilization, of every leaf of the final state and of
the result. Compared are:

commits   both commits: all that both have must be equal, by its newest name (`RENAMED`); what one
          of them alone has is listed
devices   in each commit, numbers of devices, where they are not to matter
cut       in each commit, a run that was cut and resumed, and one that was not

Recordings of commits are kept in `--recordings`, by jax's version and `VERSION`, so that a second
run only runs what is new. The same commit twice compares devices and cuts alone. Exits with 1 where
anything differs or fails.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import commits
import jax
import machine

SCRIPT = "recorded_cases.py"
VERSION = 1  # raised when a case, or what is recorded of it, comes to be another
TIMEOUT = 1800  # seconds of one process
SHOWN = 6  # names on the terminal; the JSON has all
# Old names and what they are called now, as they occur anywhere in the names of a recording.
RENAMED = {
    ".problem.observations.number": ".problem.observations.count",
    ".problem.observations.squared_deviations": ".problem.observations.sum_squares",
    ".problem.hparams.alive_bonus": ".problem.hparams.alive_penalty",
    "result floor_mean": "result zero_policy_return",
    "table diverged": "table num_diverged",
}

Record = dict[str, str]


class Promise(NamedTuple):
    """Whether a case can be cut and resumed, and whether devices may show in no bit."""

    cut: bool = True
    any_devices: bool = True


CASES = {
    "quickstart-cem": Promise(),
    "quickstart-cma_es": Promise(),
    "quickstart-openai_es": Promise(),
    "hopper-gru": Promise(),
    "diverging": Promise(),
    "unnormalized": Promise(),
    "cartpole": Promise(),
    "strategies": Promise(),
    "minimize": Promise(cut=False),
    "sweep-config": Promise(cut=False),
    "sweep-halving": Promise(),
    "sweep-inexact": Promise(any_devices=False),
}


class Variant(NamedTuple):
    """How a case is run."""

    devices: int
    cut: bool

    def __str__(self) -> str:
        return f"{self.devices} device{'s' * (self.devices > 1)}{', cut' * self.cut}"


class Side:
    """One of the two trees, and its recordings.

    Args:
      commit: its full hash, or None for a folder as it is, whose recordings are not kept.
      folder: that folder.
      kept: where recordings and compiled programs are.
      stack: removes worktrees at its end.
    """

    def __init__(
        self, commit: str | None, folder: Path | None, kept: Path, stack: contextlib.ExitStack
    ):
        self.name = commit[:12] if commit else "the working tree"
        self._commit, self._tree, self._kept, self._stack = commit, folder, kept, stack

    def tree(self) -> Path:
        if self._tree is None:
            assert self._commit is not None
            self._tree = self._stack.enter_context(commits.worktree(self._commit))
        return self._tree

    def recording(self, case: str, variant: Variant) -> Record:
        """Raises a RuntimeError where the case fails."""
        about = f"{VERSION}-jax-{jax.__version__}"
        file = f"{case}-{variant.devices}{'-cut' * variant.cut}.json"
        path = self._commit and self._kept / about / self._commit / file
        if path and path.exists():
            return json.loads(path.read_text())
        record = self._record(case, variant)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1))
        return record

    def _record(self, case: str, variant: Variant) -> Record:
        environment = commits.environment(self.tree(), self._kept / "compiled")
        with tempfile.TemporaryDirectory(prefix="jaxes-record-") as folder:
            for part in ("half", "rest") if variant.cut else ("whole",):
                words = commits.command(SCRIPT, case, variant.devices, part, folder)
                done = subprocess.run(
                    words, env=environment, cwd=folder, capture_output=True, timeout=TIMEOUT
                )
                if done.returncode:
                    said = done.stderr.decode(errors="replace")[-2000:]
                    raise RuntimeError(f"{case} by {self.name}, {variant}, {part}: {said}")
            return json.loads((Path(folder) / "record.json").read_text())


def renamed(record: Record) -> Record:
    """The recording by newest names."""

    def newest(name: str) -> str:
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        return name

    found = {newest(name): value for name, value in record.items()}
    assert len(found) == len(record), "RENAMED makes one name of two"
    return found


def compare(old: Record, new: Record) -> dict[str, Any]:
    old, new = renamed(old), renamed(new)
    both = [name for name in old if name in new]
    return {
        "equal": sum(old[name] == new[name] for name in both),
        "differ": [name for name in both if old[name] != new[name]],
        "dropped": [name for name in old if name not in new],
        "added": [name for name in new if name not in old],
    }


def rows_of(case: str, old: Side, new: Side, devices: list[int]) -> Iterator[dict[str, Any]]:
    """All comparisons of a case."""
    whole = [Variant(count, cut=False) for count in devices]
    cut = [Variant(devices[-1], cut=True)] if CASES[case].cut else []
    records: dict[tuple[Side, Variant], Record | str] = {}
    for variant in (*whole, *cut):
        for side in (old, new):
            records[side, variant] = recorded(side, case, variant)
        row = {"compared": "commits", "what": str(variant)}
        yield row | judged(records[old, variant], records[new, variant])
    for side in dict.fromkeys([old, new]):
        pairs = [("devices", whole[0], other) for other in whole[1:] if CASES[case].any_devices]
        pairs += [("cut", whole[-1], other) for other in cut]
        for kind, one, other in pairs:
            row = {"compared": kind, "what": f"{one} and {other}, {side.name}"}
            yield row | judged(records[side, one], records[side, other], alike=True)


def recorded(side: Side, case: str, variant: Variant) -> Record | str:
    """The recording, or what a process said that failed."""
    try:
        return side.recording(case, variant)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return str(error)


def judged(one: Record | str, other: Record | str, alike: bool = False) -> dict[str, Any]:
    """A row's comparison; `alike`: neither may have what the other has not."""
    failures = [record for record in (one, other) if isinstance(record, str)]
    if failures:
        return {"ok": False, "failed": failures}
    found = compare(one, other)
    lacking = alike and (found["dropped"] or found["added"])
    return {"ok": found["equal"] > 0 and not found["differ"] and not lacking} | found


def show(case: str, row: dict[str, Any]) -> None:
    verdict = "equal" if row["ok"] else "FAILED" if "failed" in row else "DIFFER"
    equal = f"  {row['equal']} equal" if "equal" in row else ""
    print(f"{case:20s} {row['compared']:8s} {row['what']:42s} {verdict:6s}{equal}", flush=True)
    for kind in ("differ", "dropped", "added"):
        if names := row.get(kind):
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            print(f"    {kind}: {', '.join(names[:SHOWN])}{more}")
    for failure in row.get("failed", ()):
        print("    " + failure.strip().replace("\n", "\n    "))


def arguments() -> argparse.Namespace:
    parser = machine.parser(__doc__)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--new-tree", type=Path, help="a folder in place of the new commit")
    parser.add_argument("--cases", type=machine.some_of(CASES), default=list(CASES))
    parser.add_argument("--devices", type=machine.counts, default=[1, 2])
    default = Path(tempfile.gettempdir()) / "jaxes-same-bits"
    parser.add_argument("--recordings", type=Path, default=default)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if (options.new is None) == (options.new_tree is None):
        parser.error("one of NEW and --new-tree is required")
    return options


def main() -> None:
    options = arguments()
    hashes = [name and commits.full_hash(name) for name in (options.old, options.new)]
    rows = []
    with contextlib.ExitStack() as stack:
        kept = options.recordings.resolve()
        old = Side(hashes[0], None, kept, stack)
        tree = options.new_tree and options.new_tree.resolve()
        new = old if hashes[0] == hashes[1] else Side(hashes[1], tree, kept, stack)
        for case in options.cases:
            for row in rows_of(case, old, new, options.devices):
                rows.append({"case": case} | row)
                show(case, row)
                machine.write(options.output, old=old.name, new=new.name, rows=rows)
    failed = sum(not row["ok"] for row in rows)
    print(f"{failed} of {len(rows)} comparisons failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
