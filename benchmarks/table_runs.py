"""Run directories as rows of the table: what is cut or of another protocol is refused.

A row is what an algorithm came to on a task: its settings, and of each seed the curve of its tests,
what it had come to at each mark, when it reached the threshold, and the test at the end. A run's
directory is a sweep's, with one trial a seed; that of `ppo.py` has the same files.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
from commits import git
from table_settings import (
    BACKEND,
    EPISODE_LENGTH,
    FINAL_EPISODES,
    MARKS,
    STEPS_BETWEEN_TESTS,
    TASKS,
    TEST_EPISODES,
)

from jaxes.files import digest_of, read_json, write_whole
from jaxes.training.directory import trial_dir
from jaxes.training.identity import read_run
from jaxes.training.metrics import Row, finite, read_rows
from jaxes.training.run import RunResult
from jaxes.training.tested import score_of

FINAL = "final.json"
MOST_POINTS = 60  # of a curve that is kept
OVERSPENT = 1.1  # times its budget is what a seed may spend, or a test later: it ends at a test
VERSIONS = ("jaxes", "jax", "brax")
TOLD = (  # of the test at the end
    "score",
    "return_mean",
    "return_ci95",
    "episode_length",
    "measures",
    "num_test_episodes",
    "num_test_diverged",
    "zero_policy_return",
)
MACHINE = ("processor", "cores", "device", "devices", "python", "jax")


class RefusedError(ValueError):
    """Why a directory is left out."""


def check(what: str, found: Any, expected: Any) -> None:
    """Raises a RefusedError where the protocol has something else."""
    if found != expected:
        raise RefusedError(f"is of another protocol: {what} is {found!r}, not {expected!r}")


def check_number(what: str, value: Any) -> None:
    """Raises a RefusedError unless it is a finite number, or None, of what diverged."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (known and abs(value) < math.inf):
        raise RefusedError(f"is damaged: {what} must be a finite number or null, got {value!r}")


def keep_final(directory: Path, steps: int, result: RunResult, compile_seconds: float) -> None:
    """Writes into a seed's directory what its last policy came to in fresh episodes: it has ended.

    Args:
      directory: of the run.
      steps: the budget that it was given.
      result: of the test at the end.
      compile_seconds: its share of what compiling took.
    """
    said = {"steps": steps, "compile_seconds": compile_seconds, "machine": machine.describe()}
    said |= tie_of(directory) | {"commit": commit(), "result": finite(result.plain())}
    write_whole(directory / FINAL, json.dumps(said, indent=1) + "\n")


def tie_of(directory: Path) -> dict[str, str]:
    """What a test at the end has in common with no other run, nor with this one if it goes on."""
    rows = (directory / "metrics.jsonl").read_bytes()
    return {"run": read_run(directory)["id"], "metrics": digest_of(rows)}


def commit() -> str:
    """That of the tree that makes the test at the end, `-dirty` where it has been changed since."""
    return git("describe", "--always", "--dirty", "--abbrev=12")


def unfinished(trials: Sequence[Path], steps: int) -> list[int]:
    """Which of these seeds have had no test at their end.

    Raises:
      SystemExit: one that has was given another budget than these steps.
    """
    left = []
    for i, trial in enumerate(trials):
        if not (trial / FINAL).exists():
            left.append(i)
        elif (given := read_json(trial / FINAL, {"steps": int})["steps"]) != steps:
            raise SystemExit(
                f"{trial} was trained for {given:,} steps: choose another folder of runs"
            )
    return left


def said_of(result: RunResult) -> str:
    """What that is, in a line."""
    zero = f"zero policy {result.zero_policy_return:.1f}"
    spent = f"{result.env_steps:,} steps in {result.seconds:,.0f} s"
    return f"{result.return_mean:.1f} ({zero}), {spent}"


def directories(root: Path) -> list[Path]:
    """All below a folder that are of runs or sweeps, whole or not, but for the trials of sweeps."""
    found = {path.parent for name in ("run.json", "trials") for path in root.rglob(name)}
    return sorted(path for path in found if path.parent.name != "trials")


def row_of(path: Path, num_seeds: int, steps: int | None = None) -> dict[str, Any]:
    """The row of a directory.

    Args:
      path: of a sweep over seeds alone.
      num_seeds: how many it must have.
      steps: the budget that each must have been given; by default the task's.

    Raises:
      RefusedError: it is cut, damaged, of another protocol, or has another number of seeds.
    """
    try:
        # As it is read again, so that it compares with the rows that are kept.
        return json.loads(json.dumps(_row(_seeds(path, num_seeds, steps))))
    except RefusedError:
        raise
    except (ValueError, OSError) as error:  # which says what is damaged
        raise RefusedError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"is no run of the table: {error!r}") from error


def _seeds(path: Path, num_seeds: int, steps: int | None) -> list["Seed"]:
    about = read_run(path)
    planned = about["identity"].get("sweep")
    if not isinstance(planned, list):
        raise RefusedError("is no sweep over seeds")
    if any(values for _, values in planned):
        raise RefusedError("is a sweep over more than seeds")
    numbers = [number for number, _ in planned]
    if len(numbers) != num_seeds:
        raise RefusedError(f"has {len(numbers)} seeds, not {num_seeds}")
    if numbers != list(range(num_seeds)):  # those of searches, say
        raise RefusedError(f"has the seeds {numbers}, not 0 to {num_seeds - 1}")
    if about.get("reason") != "done":
        raise RefusedError(f"is not finished: its end is {about.get('reason')!r}")
    seeds = [Seed(trial_dir(path, i), steps) for i in range(num_seeds)]
    found = [seed.number for seed in seeds]
    if found != numbers:
        raise RefusedError(f"has the seeds {found} of {numbers}")
    return seeds


def _row(seeds: Sequence["Seed"]) -> dict[str, Any]:
    first = seeds[0]
    for seed in seeds:
        for name in ("config", "versions", "devices", "machine", "commit", "protocol"):
            if getattr(seed, name) != getattr(first, name):
                raise RefusedError(f"{seed.path.name} has another {name} than {first.path.name}")
    return {
        "task": first.task,
        "algorithm": first.algorithm,
        "protocol": first.protocol,
        "settings": first.settings,
        "versions": first.versions,
        "devices": first.devices,
        "machine": first.machine,
        "commit": first.commit,
        "seconds": round(sum(seed.seconds[-1] for seed in seeds), 1),
        "compile_seconds": round(sum(seed.final["compile_seconds"] for seed in seeds), 1),
        "seeds": [seed.told() for seed in seeds],
    }


def problem_settings(config: dict[str, Any]) -> dict[str, Any]:
    """What the problem has beside the protocol."""
    told = ("episode_length", "num_test_episodes")
    return {name: x for name, x in config["problem"].items() if name not in told and x is not None}


class Seed:
    """One run, read from its directory.

    Attributes:
      rows: those of its tests.
      steps, seconds: from its start to each test, compilation apart.

    Raises:
      ValueError: it is cut, damaged or of another protocol.
    """

    def __init__(self, path: Path, steps: int | None):
        self.path = path
        run = read_run(path)
        self.number, self.config = run["identity"]["seed"], run["identity"]["config"]
        self.versions = {name: run[name] for name in VERSIONS if name in run}
        self.devices = run["devices"]
        check("its start", run["identity"].get("mean"), None)
        if not (path / FINAL).exists():
            raise RefusedError(f"is not finished: {path.name} has had no test at its end")
        fields = {"steps": int, "compile_seconds": float, "machine": dict, "result": dict}
        self.final = read_json(path / FINAL, fields | {"commit": str, "run": str, "metrics": str})
        self.commit = self.final["commit"]
        self.machine = {name: self.final["machine"][name] for name in MACHINE}
        self.result = {name: self.final["result"][name] for name in (*TOLD, "generation")}
        numbers = {name: self.result[name] for name in TOLD if name != "measures"}
        numbers |= self.result["measures"] | {"compile_seconds": self.final["compile_seconds"]}
        for name, value in numbers.items():
            check_number(f"{name} of {path.name}", value)
        self.task = self.config["environment"]["env_name"]
        self.algorithm = self.config["strategy"]["name"]
        self._check_protocol(TASKS[self.task].steps if steps is None else steps)
        rows = read_rows(path / "metrics.jsonl")[0]
        self._check_whole(rows)
        tested = [i for i, row in enumerate(rows) if "test/return_mean" in row]
        self.rows = [rows[i] for i in tested]
        self.steps, self.seconds = (
            np.cumsum([row[name] for row in rows])[tested]
            for name in ("rollout/env_steps", "time/seconds")
        )

    def _check_protocol(self, steps: int) -> None:
        environment = {name: x for name, x in self.config["environment"].items() if x is not None}
        problem = self.config["problem"]
        self.protocol = {
            "backend": environment.get("backend"),
            "episode_length": problem["episode_length"],
            "test_episodes": problem["num_test_episodes"],
            "final_episodes": self.result["num_test_episodes"],
            "steps": self.final["steps"],
        }
        check("environment", environment.keys(), {"name", "env_name", "backend"})
        expected = [BACKEND, EPISODE_LENGTH, TEST_EPISODES, FINAL_EPISODES, steps]
        for (name, found), wanted in zip(self.protocol.items(), expected, strict=True):
            check(name, found, wanted)

    def _check_whole(self, rows: Sequence[Row]) -> None:
        """Raises a RefusedError unless these are the rows of all generations of the run that was
        tested at its end, and spent its budget and no more."""
        generations = [row["generation"] for row in rows]
        end, name = self.result["generation"], self.path.name
        if not rows or generations != list(range(1, end + 1)):
            had = generations[-1] if rows else 0
            raise RefusedError(
                f"was cut or went on: {name} has {len(rows)} rows up to {had}, not {end}"
            )
        spent = sum(row["rollout/env_steps"] for row in rows)
        if any(self.final[field] != value for field, value in tie_of(self.path).items()):
            raise RefusedError(
                f"is damaged: the test at the end of {name} is of other rows or runs"
            )
        if spent < self.protocol["steps"]:
            raise RefusedError(
                f"has not spent its budget: {name} has {spent:,.0f} of "
                f"{self.protocol['steps']:,} steps"
            )
        over = max((OVERSPENT - 1) * self.protocol["steps"], STEPS_BETWEEN_TESTS)
        if spent > self.protocol["steps"] + over:
            raise RefusedError(
                f"is of another protocol: {name} has {spent:,.0f} steps, over its budget of "
                f"{self.protocol['steps']:,} by more than {over:,.0f}"
            )
        if "test/return_mean" not in rows[-1]:
            raise RefusedError(f"was cut: {name} was not tested where it ended")

    @property
    def settings(self) -> dict[str, Any]:
        """What the config says beside the protocol."""
        strategy = self.config["strategy"]
        return {
            "policy": self.config["policy"],
            "problem": problem_settings(self.config),
            "population_size": strategy.get("population_size"),
            "numbers": strategy[self.algorithm],
        }

    def told(self) -> dict[str, Any]:
        """What the row says of it."""
        return {
            "seed": self.number,
            "env_steps": int(self.steps[-1]),
            "generation": self.result["generation"],
            "seconds": round(float(self.seconds[-1]), 1),
            "compile_seconds": round(self.final["compile_seconds"], 1),
            "at": {str(mark): said for mark in MARKS if (said := self.at(mark)) is not None},
            "reached": self.reached(TASKS[self.task].threshold),
            "curve": self.curve(),
            "final": {name: self.result[name] for name in TOLD},
        }

    def at(self, mark: int) -> dict[str, Any] | None:
        """The last test at so many steps or before, None where there is none or the budget ends
        earlier; `return` is null where an episode of it diverged."""
        before = int(np.searchsorted(self.steps, mark, side="right")) - 1
        if before < 0 or mark > self.protocol["steps"]:
            return None
        said = {"steps": int(self.steps[before]), "return": self._return(before)}
        return said | {"distance": self.rows[before].get("test/distance")}

    def reached(self, threshold: float) -> dict[str, float] | None:
        """Steps and seconds of the first test that reached the threshold; None where none did."""
        for i, row in enumerate(self.rows):
            if score_of(row) >= threshold:
                return {"steps": int(self.steps[i]), "seconds": round(float(self.seconds[i]), 1)}
        return None

    def curve(self) -> dict[str, list]:
        """Of the tests those next to an even grid of steps."""
        grid = np.linspace(0, self.steps[-1], MOST_POINTS)
        chosen = np.unique(np.searchsorted(self.steps, grid)).tolist()
        measured = "test/distance" in self.rows[0]
        distances = {"distance": [_rounded(self.rows[i].get("test/distance"), 3) for i in chosen]}
        return {
            "steps": self.steps[chosen].astype(int).tolist(),
            "seconds": self.seconds[chosen].round(1).tolist(),
            "return": [_rounded(self._return(i)) for i in chosen],
        } | (distances if measured else {})

    def _return(self, test: int) -> float | None:
        return finite(score_of(self.rows[test]))


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
