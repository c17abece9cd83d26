"""Do the peers install, and what does a generation of theirs cost beside ours?

    python benchmarks/peers.py [--peers evosax,evox] [--pairs 7] [--venvs FOLDER] [--keep]
        [--output benchmarks/results/peers-cpu.json]

Each peer of `peers_settings.py` gets a fresh virtual environment of this Python, outside the tree
and removed at the end; one that is there in `--venvs` already is used, and left there:

install    pip installs the version that is named in `PEERS`; what is imported then is what a user
           would import. Seconds, megabytes, and the versions that came with it; of a failure, the
           last line of what was said
wheel      the newest date of a file in its wheel; None where its build leaves dates out
algorithms the names of its algorithms, as it lists them itself
step       a generation (ask, evaluation of a sphere, tell) of a strategy that both have, in two
           processes that live on and of which one works at a time: theirs, ours, theirs, ours, on
           one core and one thread (`peers_side.py`). CPU seconds, so that others on the machine
           count for little; its load is noted. The ratio is theirs over ours, pair by pair
brax       its task of Brax, with the newest brax: is it made, and does it take a step? Neither is
           known (`runs` is None) where pip fails
constructs which of its algorithms are made and give a population, with what they need beside it

Rows are written as they come, each with the version of its peer, and another run goes on where the
last one was; rows of another version are measured again. What is measured of peers elsewhere:
strategies.py, vs_brax_es.py, coco.py, searches.py, sweep.py.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import commits
import machine
from peers_settings import BRAX, PEERS, Peer, cases

ROOT = Path(__file__).parents[1]
OUTPUT = Path(__file__).with_name("results") / "peers-cpu.json"
BESIDE = ("jax", "torch", "numpy", "brax")  # packages whose versions are noted
LIMIT = 900  # seconds that a process may take, or an answer of one that is timed
MEGABYTE = 1e6
NO_DATE = "2020-02-02"  # that of hatch's reproducible builds


# Installing.


def failure(done: subprocess.CompletedProcess) -> str:
    """The last line of what a process said, without places on the network and on this machine."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    last = [line for line in ["nothing", *lines] if line][-1]
    return re.sub(r"\w+://\S+|(?<=[\s'\"])/\S+/", "...", last)


def said(python: Path, *words: str | Path) -> tuple[str, str | None]:
    """What a process of an environment prints at last, and how it failed, if it did."""
    try:
        done = subprocess.run(
            [python, *words],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environment(),
            cwd=python.parent,
        )
    except subprocess.TimeoutExpired:
        return "", f"it took more than {LIMIT} s"
    lines = done.stdout.strip().splitlines() or [""]
    return lines[-1], failure(done) if done.returncode else None


def pip(python: Path, *words: str | Path) -> str | None:
    """How pip failed, if it did."""
    return said(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words)[1]


def versions(python: Path) -> dict[str, str]:
    """The packages of an environment, pip and setuptools left out."""
    command = [python, "-m", "pip", "list", "--format=json"]
    there = json.loads(subprocess.check_output(command, text=True, env=environment()))
    tools = ("pip", "setuptools")
    return {each["name"]: each["version"] for each in there if each["name"] not in tools}


def size_of(folder: Path) -> float:
    """Megabytes of the files under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / MEGABYTE


def installed(name: str, peer: Peer, venv: Path) -> dict[str, Any]:
    """The row of an installation into a fresh environment."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    empty, started = size_of(venv), time.monotonic()
    for wanted in filter(None, (peer.before, f"{name}=={peer.version}")):
        if error := pip(python, "install", "--no-cache-dir", wanted):
            return {"installs": False, "imports": False, "error": error}
    seconds = time.monotonic() - started
    there = versions(python)
    _, error = said(python, "-c", f"import {', '.join(peer.modules)}")
    return {
        "installs": True,
        "imports": error is None,
        "seconds": seconds,
        "megabytes": size_of(venv) - empty,
        "packages": len(there),
        "beside": {each: there[each] for each in BESIDE if each in there and each != name},
        **({"error": error} if error else {}),
    }


def dated(name: str, peer: Peer, python: Path) -> dict[str, Any]:
    """The row of a peer's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        only = ("--no-deps", "--only-binary", ":all:", "--dest", folder)
        if error := pip(python, "download", *only, f"{name}=={peer.version}"):
            return {"date": None, "error": error}
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            newest = max(file.date_time for file in archive.infolist())
    date = "{:04}-{:02}-{:02}".format(*newest)
    return {"date": None if date == NO_DATE else date}


def listed(peer: Peer, python: Path) -> dict[str, Any]:
    """The row of a peer's algorithms."""
    modules = ", ".join(peer.modules)
    names, error = said(
        python, "-c", f"import json, {modules}\nprint(json.dumps({peer.algorithms}))"
    )
    return {"error": error} if error else {"algorithms": json.loads(names)}


def played(code: str, python: Path) -> dict[str, Any]:
    """The row of a peer's task of Brax."""
    if error := pip(python, "install", BRAX):
        return {"runs": None, "error": error}
    _, error = said(python, "-c", code)
    there = versions(python)
    row = {"runs": error is None, "beside": {each: there[each] for each in BESIDE if each in there}}
    return row | ({"error": error} if error else {})


def constructed(code: str, needs: tuple[str, ...], python: Path) -> dict[str, Any]:
    """The row of the algorithms that are made."""
    if error := pip(python, "install", *needs):
        return {"error": error}
    answer, error = said(python, "-c", code)
    if error:
        return {"error": error}
    found = json.loads(answer)
    return {
        "made": sorted(name for name in found if found[name] is None),
        "failed": {name: found[name] for name in sorted(found) if found[name] is not None},
    }


# Timing.


def environment(tree: Path | None = None) -> dict[str, str]:
    """The variables of a process that does not see this tree, or of one that imports jaxes."""
    found = commits.environment(tree or ROOT)
    if tree is None:
        del found["PYTHONPATH"]
    return found


class Side:
    """A process of `peers_side.py`."""

    def __init__(self, python: Path | str, library: str, tree: Path | None = None):
        script = Path(__file__).with_name("peers_side.py")
        self._process = subprocess.Popen(
            [python, script, library],
            env=environment(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries tell of much
            text=True,
        )

    def ask(self, case: dict[str, Any]) -> dict[str, Any]:
        """What it answers; `{"error": ...}` where the library fails or the process has ended, as it
        is made to after `LIMIT`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        patience = threading.Timer(LIMIT, self._process.kill)
        patience.start()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(case) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        patience.cancel()
        if not answer:
            return {"error": f"its process ended with code {self._process.wait()}"}
        return json.loads(answer)

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()


@contextlib.contextmanager
def sides(library: str, python: Path) -> Iterator[tuple[Side, Side]]:
    """Theirs and ours."""
    with contextlib.ExitStack() as stack:
        found = []
        for side in (Side(python, library), Side(sys.executable, "jaxes", ROOT)):
            stack.callback(side.end)
            found.append(side)
        yield found[0], found[1]


def measured(library: str, case: dict[str, Any], python: Path, pairs: int) -> dict[str, Any]:
    """The row of a case: theirs over ours, in turn; the first of each compiles.

    Raises:
      RuntimeError: ours fails.
    """
    answers, loads = [], []
    with sides(library, python) as (theirs, ours):
        for _ in range(1 + pairs):
            loads.append(os.getloadavg()[0])
            answers.append((theirs.ask(case), ours.ask(case)))
            if "error" in answers[-1][1]:
                raise RuntimeError(f"jaxes fails in {case}: {answers[-1][1]['error']}")
            if "error" in answers[-1][0]:
                return {"runs": False, "error": answers[-1][0]["error"]}
    (first, our_first), *timed = answers
    ratios = [one["seconds"] / other["seconds"] for one, other in timed]
    return {
        "runs": True,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "pairs": pairs,
        "seconds": statistics.median(one["seconds"] for one, _ in timed),
        "jaxes_seconds": statistics.median(other["seconds"] for _, other in timed),
        "first_seconds": first["first_seconds"],
        "jaxes_first_seconds": our_first["first_seconds"],
        "load": statistics.median(loads[1:]),
        **({"how": first["how"]} if "how" in first else {}),
    }


# All of it.


def check_environments(folder: Path, names: Iterable[str]) -> None:
    """Exits where what is there for one of these peers is no environment that has its version."""
    for name in names:
        venv, wanted = folder / name, PEERS[name].version
        if venv.exists():
            python = venv / "bin" / "python"
            there = versions(python) if python.exists() else {}
            found = {each.lower().replace("_", "-"): there[each] for each in there}.get(name)
            if found != wanted:
                has = f"has {name} {found}, not {wanted}" if found else f"is there without {name}"
                sys.exit(f"--venvs: {venv} {has}: remove it, or choose another folder")


@contextlib.contextmanager
def environment_of(name: str, folder: Path | None, keep: bool) -> Iterator[tuple[Path, Any]]:
    """A peer's virtual environment, and the row of its installation (None where it was there)."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxes-peers-")))
        venv = folder / name
        if venv.exists():
            yield venv, None
            return
        if not keep:
            stack.callback(shutil.rmtree, venv, ignore_errors=True)
        yield venv, installed(name, PEERS[name], venv)


def parts(peer: Peer, name: str, python: Path, pairs: int) -> Iterator[tuple[str, str, Callable]]:
    """What is found out of an installed peer: part, case, and what makes the row."""
    yield "wheel", "", functools.partial(dated, name, peer, python)
    yield "algorithms", "", functools.partial(listed, peer, python)
    for case, what in cases(peer).items():
        yield "step", case, functools.partial(measured, name, what, python, pairs)
    if peer.brax:
        yield "brax", BRAX, functools.partial(played, peer.brax, python)
    if peer.constructs:
        make = functools.partial(constructed, peer.constructs, peer.needs, python)
        yield "constructs", ", ".join(peer.needs), make


def identity(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """What a row is of."""
    return row["peer"], row["version"], row["part"], row["case"]


def identities(name: str) -> set[tuple[str, str, str, str]]:
    """Those of all rows of a peer, in the version that is wanted now."""
    peer = PEERS[name]
    found = [("install", ""), *((part, case) for part, case, _ in parts(peer, name, Path(), 0))]
    return {(name, peer.version, part, case) for part, case in found}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--peers", type=machine.some_of(PEERS), default=list(PEERS))
    parser.add_argument("--pairs", type=machine.count, default=7)
    absolute = lambda folder: Path(folder).resolve()  # noqa: E731
    parser.add_argument("--venvs", type=absolute, help="a temporary folder by default")
    parser.add_argument("--keep", action="store_true", help="the environments, for another look")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    rows = machine.rows_of(options.output)
    if options.venvs is not None:
        check_environments(options.venvs, options.peers)

    def add(part: str, name: str, case: str, found: dict[str, Any]) -> None:
        about = {"part": part, "peer": name, "version": PEERS[name].version, "case": case}
        rows.append(about | found)
        print(json.dumps(rows[-1]), flush=True)
        machine.write(options.output, rows=rows)

    for name in options.peers:
        known, wanted = set(map(identity, rows)), identities(name)
        if wanted <= known:
            continue
        rows[:] = [row for row in rows if row["peer"] != name or identity(row) in wanted]
        with environment_of(name, options.venvs, options.keep) as (venv, row):
            if row is not None and (name, PEERS[name].version, "install", "") not in known:
                add("install", name, "", row)
            if row is not None and not row["installs"]:
                continue
            python = venv / "bin" / "python"
            for part, case, make in parts(PEERS[name], name, python, options.pairs):
                if (name, PEERS[name].version, part, case) not in known:
                    add(part, name, case, make())


if __name__ == "__main__":
    main()
