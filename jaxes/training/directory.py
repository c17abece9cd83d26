"""The run directory: who may use it, and what is said of the run in it.

run.json       what the run is: format, seed, sizes, hyperparameters, config; never changed
config.yaml    the resolved config, where there is one
metrics.jsonl  one object a generation
start.npz      where it began, if that was given: see `jaxes.training.start`
stopped.json   the generation at which a callback ended it, if one did
checkpoints/   one directory a saved generation
lock           held by the process that runs it
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import yaml

from jaxes import hparams
from jaxes.core import HParams, Problem, Strategy, TrainHParams
from jaxes.files import write_whole
from jaxes.specs import spec_of
from jaxes.training.run import Trial

FORMAT = 2
DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # these say nothing of the input
OLDEST = "written by jaxes before 2026-11-25; commit 45933eb reads it"
RUN_FILES = (
    "run.json",
    "config.yaml",
    "start.npz",
    "metrics.jsonl",
    "stopped.json",
    "checkpoints",
)


def identity_of(population_size: int, trial: Trial) -> dict[str, Any]:
    """What must be the same when a run is resumed, as plain data."""
    sections = {name: part for name, part in (trial.config or {}).items() if name != "training"}
    if "strategy" in sections:  # the settings of strategies that it does not use say nothing
        strategy = sections["strategy"]
        used = ("name", "population_size", strategy["name"])
        sections["strategy"] = {name: strategy[name] for name in used}
    identity = {
        "seed": trial.seed,
        "population_size": population_size,
        "strategy": hparams.paths(trial.hparams.strategy),
        "problem": hparams.paths(trial.hparams.problem),
        "config": sections,
    }
    return json.loads(json.dumps(identity, default=lambda number: np.asarray(number).tolist()))


def config_of(
    problem: Problem, strategy: Strategy, numbers: TrainHParams, training: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The config that describes a run made in Python, if a config can: the factories' arguments,
    these hyperparameters, and the arguments of `jaxes.train`."""
    of_problem, of_strategy = spec_of(problem), described(strategy, numbers.strategy)
    if of_problem is None or of_strategy is None:
        return None
    sections = {
        **of_problem,
        "problem": of_problem["problem"] | hparams.paths(numbers.problem),
        "strategy": of_strategy,
        "training": training,
    }
    return plain_sections(sections)


def described(strategy: Strategy, numbers: HParams) -> dict[str, Any] | None:
    """What a config says of a strategy with these numbers; None where it cannot."""
    spec = spec_of(strategy)
    if spec is None:
        return None
    name, traced = spec["name"], hparams.paths(numbers)
    # Of nes, the traced numbers are more than what its factory takes.
    return {**spec, name: {field: traced.get(field, value) for field, value in spec[name].items()}}


def plain_sections(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a config as YAML writes them."""
    plain = json.dumps(sections, default=lambda number: np.asarray(number).item())
    return {name: _without_none(section) for name, section in json.loads(plain).items()}


def _without_none(section: dict[str, Any]) -> dict[str, Any]:
    """A config leaves out fields that have no value."""
    fields = {field: value for field, value in section.items() if value is not None}
    # Sections within it: a strategy's own settings, a planner's strategy and objective.
    for field in (str(fields.get("name")), "strategy", "objective"):
        if isinstance(fields.get(field), dict):
            fields[field] = _without_none(fields[field])
    return fields


@contextlib.contextmanager
def open_run_dir(
    run_dir: Path,
    identity: dict[str, Any],
    resume: bool,
    config: Mapping[str, Any] | None,
    files: tuple[str, ...] = RUN_FILES,
) -> Iterator[Callable[[], None]]:
    """Locks the directory for this process, and gives what claims it for this run: nothing is
    written before, and nothing is left of a new one that never was claimed.

    Args:
      run_dir: made where it is not there.
      identity: of the run; see `identity_of`.
      resume: whether the directory may hold this run already.
      config: kept as `config.yaml` of a new run.
      files: where any of these exists there is a run already.

    Raises:
      ValueError: the directory cannot be used, is in use, or holds something else.
    """
    _check_usable(run_dir, files)
    made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    locked_before = (run_dir / "lock").exists()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_FAILS:
            raise
        raise ValueError(f"run_dir: {run_dir} cannot be made: {error.strerror}") from error
    for path in (run_dir, *(run_dir / name for name in files)):
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"run_dir: {path} is not writable")
    with contextlib.ExitStack() as stack:
        sweep = sweep_of(run_dir)
        if sweep is not None and (sweep / "lock").exists():  # a sweep holds its own lock
            stack.enter_context(locked(sweep / "lock", run_dir, fcntl.LOCK_SH))
        stack.enter_context(locked(run_dir / "lock", run_dir))
        found = [name for name in files if (run_dir / name).exists()]
        if found and not resume:
            raise ValueError(
                f"run_dir: {run_dir} already holds a run ({found[0]} exists already); resume it or "
                "choose another directory"
            )
        check_identity(run_dir, identity)
        try:
            yield lambda: describe(run_dir, identity, config)
        finally:
            if not locked_before and not (run_dir / "run.json").exists():
                with contextlib.suppress(OSError):  # something else is in it by now
                    (run_dir / "lock").unlink()
                    for path in made:
                        path.rmdir()


def _check_usable(run_dir: Path, files: tuple[str, ...]) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir: {run_dir} is not a directory")
    if any(character in str(run_dir.resolve()) for character in "*?[]"):
        # Orbax globs in the path and loses a checkpoint's data without an error.
        raise ValueError(f"run_dir must be a path without *, ?, [ and ], got {str(run_dir)!r}")


@contextlib.contextmanager
def locked(path: Path, run_dir: Path, kind: int = fcntl.LOCK_EX) -> Iterator[IO]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"run_dir: {run_dir} is in use by another process") from error
        yield lock


def check_identity(run_dir: Path, identity: dict[str, Any]) -> None:
    """Raises a ValueError where the directory holds another run."""
    if (run_dir / "run.json").exists():
        check_same(f"the run in {run_dir}", read_identity(run_dir), identity)


def sweep_of(run_dir: Path) -> Path | None:
    """The directory of the sweep that the run is a trial of; None where it is none."""
    run_dir = run_dir.absolute()
    return run_dir.parents[1] if run_dir.parent.name == "trials" else None


def describe(run_dir: Path, identity: dict[str, Any], config: Mapping[str, Any] | None) -> None:
    """Writes what a new run is; one that is there has been looked at by `check_identity`."""
    if (run_dir / "run.json").exists():
        return
    if config is not None:
        write_whole(run_dir / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
    run = {
        "format": FORMAT,
        "id": secrets.token_hex(8),
        "identity": identity,
        "jax": jax.__version__,
        "devices": ", ".join(device.device_kind for device in jax.local_devices()),
    }
    write_whole(run_dir / "run.json", json.dumps(run, indent=1))


def check_same(what: str, identity: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises a ValueError that names the first field in which `given` is not `what` is."""
    if (found := _difference(identity, given)) is not None:
        path, *values = found
        saved, got = (textwrap.shorten(repr(value), 200) for value in values)
        field = path.removeprefix("config.")
        field = re.sub(r"^search\.|(?<=mean|.std)\.values.*|(?<=bounds)\.values.*", "", field)
        field = re.sub(r"^sweep\[(\d+)\]\[0\]$", r"seed of trial \1", field)
        field = re.sub(r"^sweep\[(\d+)\]\[1\]\.(.*)", r"\2 of trial \1", field)
        raise ValueError(f"{field}: {what} has {saved}, got {got}")


def _difference(saved: Any, given: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first field that differs, with both of its values; None stands for no value."""
    if isinstance(saved, dict) and isinstance(given, dict):
        for name in dict.fromkeys([*given, *saved]):
            inner = f"{path}.{name}" if path else name
            found = _difference(saved.get(name), given.get(name), inner)
            if found is not None:
                return found
        return None
    if isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given):
        pairs = enumerate(zip(saved, given, strict=True))
        differences = (_difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)
        return next(filter(None, differences), None)
    return None if saved == given else (path, saved, given)


def read_identity(run_dir: Path) -> dict[str, Any]:
    """What `run.json` says that a run is.

    Raises:
      ValueError: it is not there, damaged, or of another format.
    """
    path = run_dir / "run.json"
    try:
        run = json.loads(path.read_text())
        known, identity = run.get("format", 1), dict(run["identity"])
    except FileNotFoundError as error:
        raise ValueError(f"run: {run_dir} holds no run (no run.json in it)") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"run_dir: {path} is damaged: {error!r}") from error
    if known != FORMAT:
        why = OLDEST if known == 1 else "written by a newer jaxes"
        raise ValueError(f"run_dir: {path} has the format {known}, not {FORMAT}: {why}")
    return identity
