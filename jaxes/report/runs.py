"""What is reported: the trials of a sweep, or runs side by side as if they were."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxes.checks import check
from jaxes.config import files
from jaxes.sweeps.table import COLUMNS, MEASURE, is_swept, measured, read_table
from jaxes.training.directory import trial_dir
from jaxes.training.followed import Followed
from jaxes.training.identity import read_run
from jaxes.training.metrics import Row, is_finite, read_rows
from jaxes.training.run import configuration_key
from jaxes.training.tested import score_of, told_in, told_of

MOST_FIELDS = 6  # in which runs may differ to be told apart by them; beyond, by their names
COLUMN_OF = {  # of a test's metrics; the others are what the environment measures
    "return_mean": "return_mean",
    "return_std": "return_std",
    "return_ci95": "return_ci95",
    "episode_length": "episode_length",
    "diverged": "num_test_diverged",
    "truncated": "num_test_truncated",
}


class Sweep(NamedTuple):
    """Trials of a sweep, or runs side by side.

    Attributes:
      fields: what tells their configurations apart: the swept fields of more than one value.
      differences: all fields in which they differ, their seeds apart.
      rows: what each came to, as `results.csv` has it, and its directory as `run_dir`.
    """

    fields: list[str]
    differences: list[str]
    rows: list[dict[str, Any]]

    def configurations(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The values of each configuration, and the rows of its seeds."""
        by_values: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        for row in self.rows:
            values = {field: row[field] for field in self.fields}
            by_values.setdefault(configuration_key(values), (values, []))[1].append(row)
        return list(by_values.values())

    def runs_of(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a configuration's seeds."""
        return next(rows for found, rows in self.configurations() if found == values)


def metrics(row: Mapping[str, Any]) -> list[Row]:
    """The generations of a row's run."""
    return read_rows(row["run_dir"] / "metrics.jsonl")[0]


def read(paths: Sequence[Path]) -> Sweep:
    """What directories hold: a sweep, or runs, among which the trials of sweeps count one by one.

    Raises:
      ValueError: one of them holds neither, or is damaged.
    """
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"run: there is no directory {path}")
    if len(paths) == 1 and is_sweep(paths[0]):
        return read_sweep(paths[0])
    runs = [run for path in paths for run in (trials_of(path) if is_sweep(path) else [path])]
    return side_by_side(list({run.resolve(): run for run in runs}.values()))


def is_sweep(path: Path) -> bool:
    return (path / "trials").is_dir() or (path / "results.csv").exists()


def trials_of(sweep: Path) -> list[Path]:
    """The directories of a sweep's trials, in their order."""
    return sorted(path for path in (sweep / "trials").iterdir() if path.name.isdigit())


def read_sweep(path: Path) -> Sweep:
    """The results of a sweep; of one that has not ended, what its trials have come to so far.

    Raises:
      ValueError: there are none, or they are of another format.
    """
    about = read_run(path) if (path / "run.json").exists() else {}
    ended = about.get("reason", "done") == "done"  # or the table is that of an earlier end
    if (ended and (path / "results.csv").exists()) or not (path / "trials").is_dir():
        rows = read_table(path)
    else:
        training = training_of(path)
        rows = [came_to(trial, training) for trial in follow_trials(path)]
    fields = _differing(rows, list(filter(is_swept, rows[0])))
    rows = [row | {"run_dir": trial_dir(path, row["trial"])} for row in rows]
    return Sweep(fields, fields, rows)


def follow_trials(path: Path) -> list[Followed]:
    """The trials of a sweep, with the values of the fields in which they differ, not read yet."""
    trials = read_run(path)["identity"]["sweep"]
    swept = dict.fromkeys(name for _, values in trials for name in values)
    rows = [{name: values.get(name) for name in swept} for _, values in trials]
    fields = _differing(rows, list(swept))
    return [
        Followed(trial_dir(path, i), i, seed, {name: row[name] for name in fields})
        for i, ((seed, _), row) in enumerate(zip(trials, rows, strict=True))
    ]


def training_of(path: Path) -> dict[str, Any]:
    """The section `training` of a run, or of a sweep's trials; empty where there is no config."""
    for config in (trial_dir(path, 0) / "config.yaml", path / "config.yaml"):
        with contextlib.suppress(files.ConfigError):
            section = files.read(config).get("training")
            known = section.items() if isinstance(section, dict) else ()
            return {name: x for name, x in known if type(x) in (int, float)}
    return {}


def side_by_side(paths: Sequence[Path]) -> Sweep:
    """Runs as the trials of a sweep over the fields in which they differ.

    Raises:
      ValueError: one is no run, or is damaged.
    """
    first: dict[str, Path] = {}
    for path in paths:  # a copy would count as another seed
        other = first.setdefault(read_run(path)["id"], path)
        check("run", str(path), other == path, f"another run than {other}, of which it is a copy")
    identities = [read_run(path)["identity"] for path in paths]
    for path, identity in zip(paths, identities, strict=True):
        is_run = {"seed", "config"} <= identity.keys()
        check("run", str(path), is_run, "the directory of a run, or of a sweep")
    described = [dict(_configuration(identity)) for identity in identities]
    names = list(dict.fromkeys(name for values in described for name in values))
    rows, keys = [], []
    for i, (path, identity, values) in enumerate(zip(paths, identities, described, strict=True)):
        whole = {name: values.get(name) for name in names}
        followed = Followed(path, i, identity["seed"], whole)
        rows.append(came_to(followed, training_of(path)) | {"run_dir": path})
        keys.append(configuration_key(whole))
    differences = _differing(rows, names)
    if len(differences) <= MOST_FIELDS:
        return Sweep(differences, differences, rows)
    named: dict[str, str] = {}  # the name of a configuration is that of its first run
    for name, row, key in zip(names_of(paths), rows, keys, strict=True):
        row["run"] = named.setdefault(key, name)
    return Sweep(["run"], differences, rows)


def came_to(followed: Followed, training: Mapping[str, Any]) -> dict[str, Any]:
    """What a run has come to, as a row of a sweep's table: in fresh episodes, once it has ended, or
    in its last test. It is read for it.

    Args:
      followed: the run.
      training: the section of its config; see `training_of`.
    """
    followed.read()
    run = followed.run
    tested = run.tests[-1] if run.tests else {}
    ended = read_run(followed.path).get("result")
    so_far = {
        "trial": run.trial.index,
        "seed": run.trial.seed,
        **run.trial.values,
        "status": followed.status(training),
        "generation": followed.generation,
        "score": run.score() if run.tests else math.nan,
        "best_return": max(filter(is_finite, map(score_of, run.tests)), default=None),
        "zero_policy_return": None,
        "env_steps": run.env_steps,
        "seconds": run.seconds,
        "net_bytes": run.last_row.get("net/bytes"),
        "waited": run.waited / run.seconds if run.waited else None,
        **{
            COLUMN_OF.get(name, MEASURE + name): x
            for name, x in told_in(tested).get("", {}).items()
        },
    }
    return so_far | ({} if ended is None else _columns(ended))


def told_by_name(run_dir: Path) -> dict[str, Row]:
    """What tests of a run say by name, those that count under the empty one: in fresh episodes,
    once it has ended, or in its last test."""
    ended = read_run(run_dir).get("result") if (run_dir / "run.json").exists() else None
    if ended is not None and ended.get("tests"):
        return {name: told_of(said) for name, said in {"": ended, **ended["tests"]}.items()}
    rows = read_rows(run_dir / "metrics.jsonl")[0]
    return told_in(next((row for row in reversed(rows) if "test/return_mean" in row), {}))


def _columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json` says of a run that has ended, null for what is not finite."""
    columns = {name: result[name] for name in COLUMNS if name in result and name != "trial"}
    score = columns.get("score")
    more = measured(result.get("measures", {}), result.get("tests", {}))
    return columns | more | {"score": -math.inf if score is None else score}


def names_of(paths: Sequence[Path]) -> list[str]:
    """The names of directories, or their paths where names are the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _differing(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """The fields that have more than one value."""
    return [
        field
        for field in fields
        if len({configuration_key({field: row[field]}) for row in rows}) > 1
    ]


def _configuration(identity: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a run is but for its seed, by paths: of its config, or of its numbers where none is."""
    sections = identity["config"] or {
        name: part for name, part in identity.items() if name not in ("seed", "config")
    }
    yield from _flat(sections | {name: identity[name] for name in ("mean",) if name in identity})


def _flat(sections: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sections.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
