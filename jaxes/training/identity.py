"""What a run is, in its `run.json`: what must be the same when it is resumed, and what made it."""

import contextlib
import copy
import json
import re
import secrets
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

from jaxes import hparams
from jaxes.checks import brief
from jaxes.core import HParams, Problem, Strategy, TrainHParams
from jaxes.files import digest_of, read_json, write_whole
from jaxes.specs import spec_of
from jaxes.training.run import Trial
from jaxes.versions import versions

FORMAT = 3  # since checkpoints have manifests
READ = (2, FORMAT)  # the formats that are read
OLDEST = "written by jaxes before 2026-11-25; commit 45933eb reads it"
FILE = "run.json"
PACKAGES = ("jaxes", "jax", "brax")  # whose versions are told


def identity_of(
    population_size: int, trial: Trial, problem: Problem | None = None
) -> dict[str, Any]:
    """What must be the same when a run is resumed, as plain data; of a problem that no config can
    describe, its episodes."""
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
    if not sections and problem is not None and problem.episodes is not None:
        identity["episodes"] = problem.episodes._asdict()
    return _plain(identity)


def config_of(
    problem: Problem, strategy: Strategy, numbers: TrainHParams, training: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The config that describes a run made in Python, if a config can: the factories' arguments,
    these hyperparameters, and the arguments of `jaxes.train`."""
    of_problem, of_strategy = spec_of(problem), described(strategy, numbers.strategy)
    if of_problem is None or of_strategy is None:
        return None
    sections = copy.deepcopy(dict(of_problem))
    for path, number in hparams.paths(numbers.problem).items():
        _put(sections, place_of(path), number)
    return plain_sections({**sections, "strategy": of_strategy, "training": training})


def place_of(path: str) -> str:
    """Where a config has the number of a problem that has this path among its own."""
    of_environment = path.startswith(("randomize.", "tasks."))
    return f"environment.{path}" if of_environment else f"problem.{path}"


def _put(section: dict[str, Any], path: str, value: Any) -> None:
    *parents, field = path.split(".")
    for parent in parents:
        section[parent] = section.get(parent) or {}  # where it is left out
        section = section[parent]
    section[field] = value


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


def check_identity(run_dir: Path, identity: dict[str, Any]) -> None:
    """Raises a ValueError where the directory holds another run."""
    if (run_dir / FILE).exists():
        saved = read_identity(run_dir)
        known = {name: x for name, x in identity.items() if name != "episodes" or name in saved}
        check_same(f"the run in {run_dir}", saved, known)  # older runs do not say their episodes


def describe(run_dir: Path, identity: dict[str, Any], config: Mapping[str, Any] | None) -> None:
    """Writes what a new run is; of one that is there, looked at by `check_identity`, that it has
    not ended any more."""
    path = run_dir / FILE
    if path.exists():
        run = read_run(run_dir)
    else:
        if config is not None:
            write_whole(run_dir / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        run = {
            "id": secrets.token_hex(8),
            "identity": identity,
            **versions(PACKAGES),
            "devices": _devices(),
            "started": _now(),
        }
    _write(path, run | {"format": FORMAT, "ended": None, "reason": None, "result": None})


@contextlib.contextmanager
def noting_the_end(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Writes into `run.json` when and why a run ended that has begun.

    Yields:
      What is noted where nothing is raised: `reason`, and `result`.
    """
    end: dict[str, Any] = {"reason": "done", "result": None}
    try:
        yield end
    except KeyboardInterrupt:
        end["reason"] = "interrupted"
        raise
    except BaseException as error:
        end["reason"] = f"failed: {brief(error)}"[:500]
        raise
    finally:
        with contextlib.suppress(OSError, ValueError):  # it may be full, or gone
            note_end(run_dir, **end)


def note_end(run_dir: Path, reason: str, result: dict[str, Any] | None) -> None:
    """Writes into `run.json` that a run ended now, why, and what it came to."""
    end = {"ended": _now(), "reason": reason, "result": result}
    _write(run_dir / FILE, read_run(run_dir) | end)


def _write(path: Path, run: dict[str, Any]) -> None:
    run = _plain(run)
    write_whole(path, json.dumps(run | {"sha256": _digest(run)}, indent=1))


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back; a seed, say, may be a number of NumPy's."""
    return json.loads(json.dumps(content, default=lambda number: np.asarray(number).tolist()))


def _digest(run: dict[str, Any]) -> str:
    """Of all but itself."""
    return digest_of({name: value for name, value in run.items() if name != "sha256"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _devices() -> str:
    return ", ".join(device.device_kind for device in jax.local_devices())


def warn_of_other_devices(run_dir: Path) -> None:
    """Warns where the run began on devices of another kind."""
    began, now = read_run(run_dir)["devices"], _devices()
    if set(began.split(", ")) != set(now.split(", ")):
        said = f"the run began on {began}; on {now} its last bits are others from now on"
        warnings.warn(said, stacklevel=3)


def check_same(what: str, identity: dict[str, Any], given: dict[str, Any]) -> None:
    """Raises a ValueError that names the first field in which `given` is not `what` is."""
    # Another strategy or environment says more than the first of its numbers that differs.
    names = _difference(_names(identity), _names(given))
    if (found := names or _difference(identity, given)) is not None:
        path, *values = found
        saved, got = (textwrap.shorten(repr(value), 200) for value in values)
        field = path.removeprefix("config.")
        field = re.sub(r"^search\.|(?<=mean|.std)\.values.*|(?<=bounds)\.values.*", "", field)
        field = re.sub(r"^sweep\[(\d+)\]\[0\]$", r"seed of trial \1", field)
        field = re.sub(r"^sweep\[(\d+)\]\[1\]\.(.*)", r"\2 of trial \1", field)
        raise ValueError(f"{field}: {what} has {saved}, got {got}")


def _names(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of a config are called, as far as there is one."""
    config = identity.get("config") or {}
    sections = {name: part for name, part in config.items() if isinstance(part, dict)}
    return {f"{name}.name": part["name"] for name, part in sections.items() if "name" in part}


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
    return read_run(run_dir)["identity"]


def read_run(run_dir: Path) -> dict[str, Any]:
    """All that `run.json` says.

    Raises:
      ValueError: it is not there, damaged, or of another format.
    """
    path = run_dir / FILE
    try:
        known = read_json(path, {}).get("format", 1)
        if known in READ:
            run = read_json(path, {"identity": dict, "id": str, "devices": str})
            if known != 2 and run.get("sha256") != _digest(run):
                raise ValueError(f"{path} is damaged: it is not what was written")
            return run
    except FileNotFoundError as error:
        raise ValueError(f"run: {run_dir} holds no run (no run.json in it)") from error
    why = OLDEST if known == 1 else "written by a newer jaxes"
    formats = " or ".join(map(str, READ))
    raise ValueError(f"run_dir: {path} has the format {known}, not {formats}: {why}")
