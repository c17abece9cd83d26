"""What is left of a run after a kill, a failing disk, or damage?

Parts, each trial a row that is written as it comes; seeds that the output has already are not tried
again, so that counts add up:

    kills        a process of `jaxes train`, `sweep` or `resume` is killed (SIGKILL) at a random
                 instant, start-up and compilation among them, or at a random row, and resumed: the
                 same bits as those of an uninterrupted one, each generation once in metrics.jsonl
    writes       in one process, the k-th thing that a run writes fails, or is cut short and nothing
                 is written after it; then it is resumed, likewise
    checkpoints  a file of a checkpoint is flipped, cut, emptied, zeroed, deleted or another's: it
                 is noticed, or the checkpoint reads as it was
    files        run.json, config.yaml and metrics.jsonl likewise: a line, or nothing to say
    policies     a file of a policy directory likewise: a line, or the policy acts as it did
    cost         what saving costs on hopper, and how long it holds up a generation, there and for
                 a CMA-ES state of 2,000 dimensions

    python benchmarks/faults.py [--parts kills,writes,checkpoints,files,policies,cost] [--count 50]
        [--output benchmarks/results/faults-cpu.json]

`--count` is how many seeds of each part are there in the end. Exits with 1 where one fails.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import machine
import numpy as np
import orbax.checkpoint as ocp

import jaxes
from jaxes.cli import main as command_line
from jaxes.cli import startup
from jaxes.training.checkpoint import Checkpoints
from jaxes.training.metrics import read_rows

TESTS = Path(__file__).parent.parent / "tests"  # has the environment `walk`
CONFIG = """
environment: {name: walk}
problem: {num_test_episodes: 4, num_episodes: 100}
policy: {name: mlp, hidden: [4]}
strategy: {name: cma_es, population_size: 16}
training: {num_generations: 60, checkpoint_every: 3, test_every: 5}
"""
SWEEP = "sweep: {num_seeds: 2, grid: {strategy.cma_es.sigma: [0.3, 1.0]}}\n"
TIMES = ("time/seconds", "rollout/utilization", "ended", "started")
Row = dict


class KilledError(BaseException):
    """What a process feels of its kill: nothing runs after it but what unwinds."""


# What a run leaves, and whether two are the same.


def states(run_dir: Path) -> dict[str, np.ndarray]:
    """The leaves of the last checkpoint of a run, or of each of a sweep's trials."""
    found = {}
    for path in sorted(run_dir.rglob("checkpoints")):
        newest = Checkpoints(path, read_only=True).newest()
        assert newest is not None, path
        found |= {f"{path.relative_to(run_dir)}{name}": leaf for name, leaf in newest[1].items()}
    return found


def rows(run_dir: Path) -> list[Row]:
    """All rows of all metrics, without what depends on the clock."""
    found = []
    for path in sorted(run_dir.rglob("metrics.jsonl")):
        found += [
            {name: x for name, x in row.items() if name not in TIMES} for row in read_rows(path)[0]
        ]
    return found


def difference(run_dir: Path, whole: Path) -> str | None:
    """What differs between two finished runs or sweeps."""
    ours, theirs = states(run_dir), states(whole)
    if ours.keys() != theirs.keys():
        return f"leaves {sorted(ours.keys() ^ theirs.keys())}"
    for name, leaf in ours.items():
        if leaf.tobytes() != theirs[name].tobytes():
            return f"leaf {name}"
    return None if rows(run_dir) == rows(whole) else "rows of metrics"


# Kills of processes.


def prepared(folder: Path) -> Path:
    """A folder with a config, a sweep's, and the package whose environment they name."""
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "sweep.yaml").write_text(CONFIG + SWEEP)
    package = folder / "walks-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: walks\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[jaxes.environments]\nwalk = walks:walk\n")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS), str(folder), str(TESTS.parent)])
    return subprocess.Popen(
        [sys.executable, "-m", "jaxes.cli", *arguments, "--cpu-devices", "1"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@cache
def whole(folder: Path, kind: str) -> tuple[Path, float]:
    """An uninterrupted run or sweep, and the seconds that it took with a cache of programs."""
    for name in ("first", "whole"):
        started = time.monotonic()
        process = start(folder, COMMANDS[kind], f"{kind}.yaml", "--run-dir", f"{kind}-{name}")
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(said)
    return folder / f"{kind}-whole", time.monotonic() - started


COMMANDS = {"run": "train", "sweep": "sweep"}


def kill(folder: Path, seed: int) -> Row:
    rng = random.Random(seed)
    kind = rng.choice(["run", "run", "sweep"])
    uninterrupted, seconds = whole(folder, kind)
    name, instants, said = f"{kind}-{seed}", [], ""
    arguments = (COMMANDS[kind], f"{kind}.yaml", "--run-dir", name)
    for _ in range(rng.choice([1, 1, 2])):
        in_time = rng.random() < 0.5
        instants.append(rng.uniform(0, 1.05 * seconds) if in_time else rng.randint(1, 60))
        process = start(folder, *arguments)
        if in_time:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(instants[-1])
        else:
            wait_for_rows(folder / name, instants[-1], process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (folder / name / "run.json").exists():
            arguments = ("resume", name)
    generations = len(rows(folder / name)) if (folder / name).exists() else 0
    process = start(folder, *arguments)
    said, _ = process.communicate()
    why = said if process.returncode else difference(folder / name, uninterrupted)
    shutil.rmtree(folder / name, ignore_errors=True)
    return {"kind": kind, "instants": instants, "rows_at_the_kill": generations, "failed": why}


def wait_for_rows(run_dir: Path, count: int, process: subprocess.Popen) -> None:
    """Until the run, or a trial of the sweep, has written so many rows."""
    while process.poll() is None:
        files = [*run_dir.glob("metrics.jsonl"), *run_dir.glob("trials/*/metrics.jsonl")]
        if max((path.read_bytes().count(b"\n") for path in files), default=0) >= count:
            return
        time.sleep(0.002)


# Writes that fail, in one process.


@cache
def sphere() -> tuple[jaxes.Problem, jaxes.Strategy]:
    return jaxes.problems.functions.sphere(3), jaxes.cma_es(8)


def short_run(run_dir: Path, resume: bool = False) -> None:
    problem, strategy = sphere()
    options = {"checkpoint_every": 2, "test_every": 3, "run_dir": run_dir, "resume": resume}
    jaxes.train(problem, strategy, num_generations=7, mean=np.ones(3), **options)


class Disk:
    """Counts what is written; at one of them it fails, or cuts it short and is gone after it."""

    def __init__(self, fails_at: int | None, kind: str):
        self.count = 0
        self.fails_at = fails_at
        self.kind = kind
        self.gone = False

    def writes(self, half: Callable[[], None] = lambda: None) -> None:
        self.count += 1
        if self.gone:
            raise KilledError
        if self.count == self.fails_at:
            self.gone = self.kind == "killed"
            half()
            raise KilledError if self.gone else OSError(28, "No space left on device")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """All that a run writes goes through it: whole files, rows, folders, names, arrays."""
        true_open, true_bytes, true_save = Path.open, Path.write_bytes, ocp.Checkpointer.save

        def opened(path: Path, mode: str = "r", *args, **kwargs):
            file = true_open(path, mode, *args, **kwargs)
            if mode != "r+b" or path.suffix != ".jsonl":
                return file
            write = file.write
            wrapped = mock.MagicMock(wraps=file)
            wrapped.__enter__.return_value = wrapped
            wrapped.__exit__.side_effect = lambda *_: file.close()

            def half_a_line(content: bytes) -> int:
                self.writes(lambda: write(content[: len(content) // 2]))
                return write(content)

            wrapped.write = half_a_line
            return wrapped

        def bytes_of(path: Path, content: bytes) -> int:
            self.writes(lambda: true_bytes(path, content[: len(content) // 2]))
            return true_bytes(path, content)

        def saved(checkpointer, path, **kwargs) -> None:
            self.writes(lambda: Path(path).mkdir())
            true_save(checkpointer, path, **kwargs)

        def named(name: str) -> Callable:
            true = getattr(Path, name)

            def call(path: Path, *args, **kwargs):
                self.writes()
                return true(path, *args, **kwargs)

            return call

        with contextlib.ExitStack() as stack:
            for name in ("mkdir", "rename", "replace"):
                stack.enter_context(mock.patch.object(Path, name, named(name)))
            stack.enter_context(mock.patch.object(Path, "open", opened))
            stack.enter_context(mock.patch.object(Path, "write_bytes", bytes_of))
            stack.enter_context(mock.patch.object(ocp.Checkpointer, "save", saved))
            yield


@cache
def undisturbed(folder: Path) -> tuple[Path, int]:
    """A whole run, and how many things it writes."""
    disk = Disk(None, "none")
    with disk.in_use():
        short_run(folder / "undisturbed")
    return folder / "undisturbed", disk.count


def write(folder: Path, seed: int) -> Row:
    rng = random.Random(seed)
    uninterrupted, count = undisturbed(folder)
    run_dir, kind = folder / f"write-{seed}", rng.choice(["killed", "full"])
    disk = Disk(rng.randint(1, count), kind)
    raised = "nothing"
    try:
        with disk.in_use():
            short_run(run_dir)
    except (KilledError, OSError) as error:
        raised = type(error).__name__
    try:
        short_run(run_dir, resume=True)
        why = difference(run_dir, uninterrupted)
    except Exception as error:
        why = repr(error)
    shutil.rmtree(run_dir, ignore_errors=True)
    return {"kind": kind, "at": disk.fails_at, "of": count, "raised": raised, "failed": why}


# Damage.


def harmed(path: Path, other: Path, rng: random.Random) -> str:
    """Does a file harm, and says which."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["flipped", "cut", "empty", "zeroed", "deleted", "another's"])
    if kind == "deleted":
        path.unlink()
    elif kind == "another's":
        shutil.copy(other, path)
    else:
        if kind == "flipped" and content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        size = {"cut": rng.randrange(len(content) or 1), "empty": 0}.get(kind, len(content))
        path.write_bytes(bytes(size) if kind == "zeroed" else content[:size])
    return kind


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def checkpoint(folder: Path, seed: int) -> Row:
    rng = random.Random(seed)
    run_dir, _ = undisturbed(folder)
    copy = shutil.copytree(run_dir / "checkpoints", folder / f"checkpoints-{seed}")
    expected = Checkpoints(copy, read_only=True).leaves(7)
    path = rng.choice(files_of(copy / "7"))
    kind = harmed(path, rng.choice(files_of(copy / "6")), rng)
    found = {"kind": kind, "file": str(path.relative_to(copy)), "noticed": False, "failed": None}
    try:
        leaves = Checkpoints(copy, read_only=True).leaves(7)
        same = leaves.keys() == expected.keys() and all(
            leaf.tobytes() == expected[name].tobytes() for name, leaf in leaves.items()
        )
        found |= {} if same else {"failed": "restored wrongly"}
    except ValueError as error:
        found |= {"noticed": True} | ({"failed": str(error)} if "\n" in str(error) else {})
    except Exception as error:
        found |= {"failed": repr(error)}
    shutil.rmtree(copy)
    return found


@cache
def small_run(folder: Path) -> Path:
    (folder / "sphere.yaml").write_text(
        "problem: {name: sphere, num_dims: 3}\nstrategy: {name: cem, population_size: 16}\n"
        "training: {num_generations: 4, checkpoint_every: 2}\n"
    )
    said = called("train", str(folder / "sphere.yaml"), "--run-dir", str(folder / "small"))
    assert said[0] == 0, said
    return folder / "small"


def called(*arguments: str) -> tuple[int, str]:
    """The exit code of a command in this process, and what it says on stderr."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = command_line(arguments)
    return code, err.getvalue()


def file(folder: Path, seed: int) -> Row:
    rng = random.Random(seed)
    copy = shutil.copytree(small_run(folder), folder / f"files-{seed}")
    names = ["run.json", "config.yaml", "metrics.jsonl"]
    path = copy / rng.choice(names)
    other = copy / rng.choice([name for name in names if name != path.name])
    kind, command = harmed(path, other, rng), rng.choice(["resume", "evaluate"])
    found = {"kind": kind, "file": path.name, "command": command, "failed": None}
    try:
        code, said = called(command, str(copy))
        one_line = said.count("\n") <= 1
        found |= {"code": code, "said": said[-300:]}
        found |= {} if one_line and code in (0, 2) else {"failed": said}
    except Exception as error:
        found |= {"failed": repr(error)}
    shutil.rmtree(copy)
    return found


@cache
def small_policy(folder: Path) -> Path:
    problem = jaxes.problems.policy_search(
        jaxes.environments.continuous_cartpole(), jaxes.policies.mlp((4,)), num_test_episodes=2
    )
    result = jaxes.train(problem, jaxes.cem(16), num_generations=2)
    jaxes.export(result, folder / "policy", problem)
    return folder / "policy"


def policy(folder: Path, seed: int) -> Row:
    rng = random.Random(seed)
    whole_one = small_policy(folder)
    copy = shutil.copytree(whole_one, folder / f"policy-{seed}")
    path, other = rng.sample(files_of(copy), 2)
    kind, observation = harmed(path, other, rng), np.linspace(-1, 1, 4, dtype=np.float32)
    found = {"kind": kind, "file": path.name, "noticed": False, "failed": None}
    try:
        action = jaxes.load_policy(copy).act(observation)
        same = np.array_equal(action, jaxes.load_policy(whole_one).act(observation))
        found |= {} if same else {"failed": "acts otherwise"}
    except ValueError as error:
        found |= {"noticed": True} | ({"failed": str(error)} if "\n" in str(error) else {})
    except Exception as error:
        found |= {"failed": repr(error)}
    shutil.rmtree(copy)
    return found


# What saving costs.


def cost(folder: Path, seed: int) -> Row:
    return hopper_cost(folder) if seed == 0 else large_cost(folder, seed)


@contextlib.contextmanager
def timed_saves() -> Iterator[tuple[list[float], list[float]]]:
    """The seconds for which each save held up its run, and those that it took beside it."""
    held: list[float] = []
    beside: list[float] = []

    def timed(true: Callable, seconds: list[float]) -> Callable:
        def call(*args) -> None:
            started = time.perf_counter()
            true(*args)
            seconds.append(time.perf_counter() - started)

        return call

    with (
        mock.patch.object(Checkpoints, "save", timed(Checkpoints.save, held)),
        mock.patch.object(Checkpoints, "_save", timed(Checkpoints._save, beside)),
    ):
        yield held, beside


def hopper_cost(folder: Path) -> Row:
    """Saving on hopper at the default interval of 50: all of it, as a share of the run."""
    problem = jaxes.problems.brax("hopper", episode_length=200)
    strategy = jaxes.openai_es(256, sigma=0.05, learning_rate=0.02)
    with timed_saves() as (held, beside):
        result = jaxes.train(problem, strategy, num_generations=101, run_dir=folder / "hopper")
    share = (sum(held[:2]) + sum(beside[:2])) / result.seconds
    return {
        "kind": "hopper",
        "seconds": float(result.seconds),
        "held": held,
        "beside": beside,
        "share": share,
        "failed": None if share <= 0.02 and max(held) <= 0.05 else "a bar is missed",
    }


def large_cost(folder: Path, seed: int) -> Row:
    """How long saves of a CMA-ES state of 2,000 dimensions hold up its generations, at the default
    interval of 50; a save waits for the one before it, if that is still being written."""
    run_dir = folder / f"large-{seed}"
    with timed_saves() as (held, beside):
        result = jaxes.train(
            jaxes.problems.functions.sphere(2000),
            jaxes.cma_es(16),
            num_generations=120,
            run_dir=run_dir,
        )
    shutil.rmtree(run_dir)
    return {
        "kind": "CMA-ES, 2,000 dimensions",
        "seconds": float(result.seconds),
        "held": held,
        "beside": beside,
        "failed": None if max(held) <= 0.05 else "a save held up the run for more than 50 ms",
    }


PARTS = {
    "kills": kill,
    "writes": write,
    "checkpoints": checkpoint,
    "files": file,
    "policies": policy,
    "cost": cost,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--count", type=machine.count, default=50)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    startup.keep_compiled_programs(None, mock.MagicMock())
    found = machine.rows_of(options.output)
    with tempfile.TemporaryDirectory() as temporary:
        folder = prepared(Path(temporary))
        for part in options.parts:
            tried = {row["seed"] for row in found if row["part"] == part}
            for seed in sorted(set(range(options.count)) - tried):
                row = {"part": part, "seed": seed} | PARTS[part](folder, seed)
                found.append(row)
                machine.write(options.output, rows=found)
                if row["failed"]:
                    print(row, flush=True)
            some = [row for row in found if row["part"] == part]
            failed = sum(row["failed"] is not None for row in some)
            print(f"{part}: {len(some)} tried, {failed} failed", flush=True)
    sys.exit(any(row["failed"] for row in found))


if __name__ == "__main__":
    main()
