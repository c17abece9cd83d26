"""Do the peers install, and what does a generation of theirs cost beside ours?

    python benchmarks/peers.py [--peers evosax,evox] [--pairs 5] [--venvs FOLDER] [--keep]
        [--output benchmarks/results/peers-cpu.json]

Each peer gets a fresh virtual environment of this Python, outside the tree and removed at the end:

install    pip installs the version that is named in `PEERS`; what is imported then is what a user
           would import. Seconds, megabytes, and the versions that came with it; of a failure, the
           last line of what was said
wheel      the newest date of a file in its wheel; None where its build leaves dates out
algorithms the names of its algorithms, as it lists them itself
step       a generation (ask, evaluation of a sphere, tell) of a strategy that both have, in two
           processes that live on and of which one works at a time: theirs, ours, theirs, ours, on
           one core and one thread (`peers_side.py`). CPU seconds, so that others on the machine
           count for little; its load is noted. The ratio is theirs over ours, pair by pair
brax       its task of Brax, with the newest brax: is it made, and does it take a step?

Rows are written as they come, and another run goes on where the last one was. What is measured of
peers elsewhere: strategies.py, vs_brax_es.py, coco.py, searches.py.
"""

import argparse
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
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import commits
import machine

ROOT = Path(__file__).parents[1]
OUTPUT = Path(__file__).with_name("results") / "peers-cpu.json"
BESIDE = ("jax", "torch", "numpy", "brax")  # packages whose versions are noted
LIMIT = 900  # seconds that pip may take
MEGABYTE = 1e6
NO_DATE = "2020-02-02"  # that of hatch's reproducible builds


class Peer(NamedTuple):
    """A peer: what is installed, what is imported, and what of it is timed."""

    version: str
    modules: tuple[str, ...]
    algorithms: str  # Python that is the list of their names; `import` of `modules` is done before
    strategies: tuple[str, ...] = ()  # that are timed
    before: str | None = None  # installed first, so that pip finds it there
    brax: str | None = None  # Python that makes its task of Brax and takes a step


TORCH = "torch==2.13.0"  # on this machine one without CUDA
BRAX = "brax==0.14.2"
PEERS = {
    "evosax": Peer(
        "0.3.2",
        ("evosax.algorithms", "evosax.problems"),
        "sorted(evosax.algorithms.algorithms)",
        ("cma_es", "sep_cma_es", "snes", "pgpe", "openai_es"),
        brax="""
import jax
from evosax.problems import BraxProblem
from evosax.problems.networks import MLP, tanh_output_fn
BraxProblem("hopper", MLP((8, 3), output_fn=tanh_output_fn), 10).sample(jax.random.key(0))
""",
    ),
    "evojax": Peer(
        "0.2.17",
        ("evojax", "evojax.algo", "evojax.task.cartpole"),
        "sorted(evojax.algo.Strategies)",
        ("cma_es", "pgpe"),
        brax="""
from evojax.task.brax_task import BraxTask
BraxTask("hopper")
""",
    ),
    "evotorch": Peer(
        "0.6.1",
        ("evotorch.algorithms", "evotorch.neuroevolution"),
        "sorted(name for name, value in vars(evotorch.algorithms).items() if"
        " isinstance(value, type) and issubclass(value, evotorch.algorithms.SearchAlgorithm)"
        " and name != 'SearchAlgorithm')",
        ("cma_es", "sep_cma_es", "snes", "pgpe", "cem"),
        before=TORCH,
        brax="""
from evotorch.neuroevolution import VecGymNE
task = VecGymNE("brax::hopper", "Linear(obs_length, act_length)", env_config={"episode_length": 10})
task.evaluate(task.generate_batch(2))
""",
    ),
    "evox": Peer(
        "1.4.0",
        ("evox.algorithms", "evox.workflows", "evox.problems"),
        "sorted(evox.algorithms.__all__)",
        ("cma_es", "snes", "openai_es"),
        before=TORCH,
        brax="""
import torch
from evox.problems.neuroevolution.brax import BraxProblem
policy = torch.nn.Linear(11, 3)
task = BraxProblem(policy, "hopper", 10, 1, pop_size=2, compile_policy=False)
task.evaluate({name: value.detach().expand(2, *value.shape) for name, value in
               policy.named_parameters()})
""",
    ),
    "evorl-jax": Peer(
        "0.1.1",
        ("evorl.ec.optimizers", "evorl.workflows", "evorl.algorithms.ec.so.openes"),
        "sorted(name for name, value in vars(evorl.ec.optimizers).items() if"
        " isinstance(value, type) and issubclass(value, evorl.ec.optimizers.EvoOptimizer)"
        " and name != 'EvoOptimizer')",
        ("openai_es", "cem"),
        brax="""
import jax, jax.numpy as jnp
from evorl.envs.brax import create_wrapped_brax_env
task = create_wrapped_brax_env("hopper", 10, parallel=2)
task.step(task.reset(jax.random.PRNGKey(0)), jnp.zeros((2, 3)))
""",
    ),
    "brax": Peer(
        "0.14.2",
        ("brax.envs", "brax.training.agents.es.train", "brax.training.agents.ars.train"),
        "['ars', 'es']",
    ),
    "cma": Peer(
        "4.5.0",
        ("cma",),
        "['CMAEvolutionStrategy']",
        ("cma_es", "sep_cma_es"),
    ),
}
# Dimension, population, and generations of a repeat.
SIZES = {
    "cma_es": ((100, 256, 100), (1000, 256, 3)),
    "sep_cma_es": ((10_000, 256, 10),),
    "snes": ((10_000, 256, 10),),
    "pgpe": ((10_000, 256, 10),),
    "cem": ((10_000, 256, 10),),
    "openai_es": ((100_000, 256, 3),),
}


def cases(peer: Peer) -> dict[str, dict[str, Any]]:
    """The cases of a peer's strategies, by name."""
    found = {}
    for strategy in peer.strategies:
        for dim, population, generations in SIZES[strategy]:
            sizes = {"dim": dim, "population": population, "generations": generations}
            found[f"{strategy} {dim:,}/{population}"] = {"strategy": strategy, **sizes}
    return found


# Installing.


def failure(done: subprocess.CompletedProcess) -> str:
    """The last line of what a process said, without places on the network and on this machine."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    last = [line for line in ["nothing", *lines] if line][-1]
    return re.sub(r"\w+://\S+|(?<=[\s'\"])/\S+/", "...", last)


def size_of(folder: Path) -> float:
    """Megabytes of the files under a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / MEGABYTE


def installed(name: str, peer: Peer, venv: Path) -> dict[str, Any]:
    """The row of an installation into a fresh environment."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    empty, started = size_of(venv), time.monotonic()
    row: dict[str, Any] = {"version": peer.version, "installs": True, "imports": False}
    for wanted in filter(None, (peer.before, f"{name}=={peer.version}")):
        command = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if done.returncode:
            return row | {"installs": False, "error": failure(done)}
    row["seconds"] = time.monotonic() - started
    row["megabytes"] = size_of(venv) - empty
    found = subprocess.check_output([python, "-m", "pip", "list", "--format=json"], text=True)
    there = {package["name"]: package["version"] for package in json.loads(found)}
    row["packages"] = len(there) - 2  # pip and setuptools
    row["beside"] = {each: there[each] for each in BESIDE if each in there and each != name}
    _, error = says(python, f"import {', '.join(peer.modules)}")
    return row | ({"error": error} if error else {"imports": True})


def says(python: Path, code: str) -> tuple[str, str | None]:
    """What a process of an environment prints at last, and how it failed, if it did."""
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env=environment(), cwd=python.parent
    )
    lines = done.stdout.strip().splitlines() or [""]
    return lines[-1], failure(done) if done.returncode else None


def dated(name: str, peer: Peer, python: Path) -> dict[str, Any]:
    """The row of a peer's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, f"{name}=={peer.version}"], check=True, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            newest = max(file.date_time for file in archive.infolist())
    date = "{:04}-{:02}-{:02}".format(*newest)
    return {"date": None if date == NO_DATE else date}


def listed(peer: Peer, python: Path) -> dict[str, Any]:
    """The row of a peer's algorithms."""
    names, error = says(
        python, f"import json, {', '.join(peer.modules)}\nprint(json.dumps({peer.algorithms}))"
    )
    return {"error": error} if error else {"algorithms": json.loads(names)}


def played(code: str, python: Path) -> dict[str, Any]:
    """The row of a peer's task of Brax."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", BRAX], capture_output=True)
    _, error = says(python, code)
    return {"runs": error is None} | ({"error": error} if error else {})


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
        """What it answers; `{"error": ...}` where the library fails or the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(case) + "\n")
            self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
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
    """The row of a case: theirs over ours, in turn."""
    with sides(library, python) as both:
        first = [side.ask(case) for side in both]
        if errors := [found["error"] for found in first if "error" in found]:
            return {"runs": False, "error": errors[0]}
        loads, times = [], []
        for _ in range(pairs):
            loads.append(os.getloadavg()[0])
            times.append([side.ask(case)["seconds"] for side in both])
    theirs, ours = zip(*times, strict=True)
    ratios = [one / other for one, other in times]
    return {
        "runs": True,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "pairs": pairs,
        "seconds": statistics.median(theirs),
        "jaxes_seconds": statistics.median(ours),
        "first_seconds": first[0]["first_seconds"],
        "jaxes_first_seconds": first[1]["first_seconds"],
        "load": statistics.median(loads),
        **({"how": first[0]["how"]} if "how" in first[0] else {}),
    }


# All of it.


@contextlib.contextmanager
def environment_of(name: str, folder: Path | None, keep: bool) -> Iterator[tuple[Path, Any]]:
    """A peer's virtual environment, and the row of its installation (None where it was kept)."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxes-peers-")))
        venv = folder / name
        if not keep:
            stack.callback(shutil.rmtree, venv, ignore_errors=True)
        yield venv, None if venv.exists() else installed(name, PEERS[name], venv)


def parts(peer: Peer, name: str, python: Path, pairs: int) -> Iterator[tuple[str, str, Callable]]:
    """What is found out of an installed peer: part, case, and what makes the row."""
    yield "wheel", "", functools.partial(dated, name, peer, python)
    yield "algorithms", "", functools.partial(listed, peer, python)
    for case, what in cases(peer).items():
        yield "step", case, functools.partial(measured, name, what, python, pairs)
    if peer.brax:
        yield "brax", BRAX, functools.partial(played, peer.brax, python)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=lambda names: names.split(","), default=list(PEERS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--venvs", type=Path, help="a temporary folder by default")
    parser.add_argument("--keep", action="store_true", help="the environments, for another look")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"--peers: {unknown[0]} must be one of {', '.join(PEERS)}")
    rows = machine.rows_of(options.output)

    def add(part: str, name: str, case: str, found: dict[str, Any]) -> None:
        rows.append({"part": part, "peer": name, "case": case, **found})
        print(json.dumps(rows[-1]), flush=True)
        machine.write(options.output, rows=rows)

    for name in options.peers:
        known = {(row["part"], row["case"]) for row in rows if row["peer"] == name}
        wanted = {(part, case) for part, case, _ in parts(PEERS[name], name, Path(), 0)}
        if wanted | {("install", "")} <= known:
            continue
        with environment_of(name, options.venvs, options.keep) as (venv, row):
            if row is not None and ("install", "") not in known:
                add("install", name, "", row)
            if row is not None and not row["installs"]:
                continue
            python = venv / "bin" / "python"
            for part, case, make in parts(PEERS[name], name, python, options.pairs):
                if (part, case) not in known:
                    add(part, name, case, make())


if __name__ == "__main__":
    main()
