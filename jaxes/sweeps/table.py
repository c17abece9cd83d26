"""What the trials of a sweep came to: tables, and which configuration is best."""

import ast
import contextlib
import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxes.checks import brief, check
from jaxes.files import write_whole
from jaxes.statistics import interquartile_mean
from jaxes.training.directory import locked, trial_dir
from jaxes.training.run import RunResult, configuration_key
from jaxes.training.tested import across_tasks

T = TypeVar("T")
Row = dict[str, Any]  # of the table: a trial

# Of a result, what is no column: of the process, not of the trial.
NOT_COLUMNS = ("state", "run_dir", "compile_seconds", "values", "measures", "tests")
MEASURE = "test/"  # before the names of what the environment measures, and of tests by name
COLUMNS = tuple(name for name in RunResult._fields if name not in NOT_COLUMNS)


def is_swept(column: str) -> bool:
    """Whether a column of the table is a swept field."""
    return column not in COLUMNS and not column.startswith(MEASURE)


def rank_key(rows: Sequence[Mapping[str, Any]]) -> tuple[bool, float]:
    """What configurations are sorted by, from the rows of their seeds: those that halving dropped
    or that diverged come last; then the interquartile mean of the scores counts."""
    middle = float(interquartile_mean(scores_of(rows)))
    out = any(row["status"] == "dropped" for row in rows) or not math.isfinite(middle)
    return out, math.inf if math.isnan(middle) else -middle


def scores_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The scores [S] of a configuration's seeds: their returns, -inf of one that diverged."""
    return np.array([row["score"] for row in rows], float)


def flat(result: RunResult) -> dict[str, Any]:
    """A row of the table: the swept fields are columns of their own."""
    row = {name: getattr(result, name) for name in COLUMNS}
    first = {name: row.pop(name) for name in ("trial", "seed")}
    return first | result.values | row | measured(result.measures, result.tests)


def measured(measures: Mapping[str, Any], tests: Mapping[str, Mapping[str, Any]]) -> Row:
    """The columns beside `COLUMNS`, from these parts of a result."""
    by_name = {f"{name}/return_mean": said["return_mean"] for name, said in tests.items()}
    told = {**measures, **across_tasks(tests), **by_name}
    return {f"{MEASURE}{name}": value for name, value in told.items()}


def best_of(results: Sequence[RunResult]) -> RunResult | None:
    """Of the configuration that ranks first the run with the greatest score; None where all
    diverged."""
    runs = by_configuration(results, lambda result: result.values)
    first = min(runs, key=lambda runs: rank_key([flat(run) for run in runs]))
    best = max(first, key=lambda run: run.score)
    return None if best.status == "diverged" else best


def by_configuration(rows: Sequence[T], values_of: Callable[[T], Mapping]) -> list[list[T]]:
    """The seeds of each configuration."""
    configurations: dict[str, list[T]] = {}
    for row in rows:
        configurations.setdefault(configuration_key(values_of(row)), []).append(row)
    return list(configurations.values())


def write_tables(directory: Path, rows: Sequence[Row]) -> None:
    """Writes `results.csv`, `results.parquet`, and `best.yaml` where the best has a config."""
    import pyarrow
    import pyarrow.parquet

    names = sorted(
        dict.fromkeys(name for row in rows for name in row),
        key=lambda name: 0 if name in ("trial", "seed") else 1 if is_swept(name) else 2,
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(directory / "results.csv", text.getvalue())
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    whole = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), whole)
    write_whole(directory / "results.parquet", whole.getvalue())
    first = min(by_configuration(rows, swept), key=rank_key)
    config = trial_dir(directory, first[0]["trial"]) / "config.yaml"  # of the first seed
    if any(row["status"] != "diverged" for row in first) and config.exists():
        write_whole(directory / "best.yaml", config.read_bytes())


def read_table(directory: Path) -> list[Row]:
    """The rows of `results.csv`.

    Raises:
      ValueError: there are none.
    """
    table = directory / "results.csv"
    if not table.is_file():
        raise ValueError(f"sweep: {directory} holds no finished sweep (no results.csv in it)")
    try:
        with table.open(newline="") as file:
            rows = [
                {name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)
            ]
        for row in rows:  # of a sweep that ended before there was such a column
            if "score" not in row:
                row["score"] = -math.inf if row["status"] == "diverged" else row["return_mean"]
        whole = all({"trial", "status"} < row.keys() and None not in row for row in rows)
    except (ValueError, KeyError, AttributeError, SyntaxError, csv.Error) as error:
        raise ValueError(f"sweep: {table} is damaged ({brief(error)})") from error
    check("sweep", str(table), bool(rows) and whole, "a table with a row a trial")
    return rows


def renew(directory: Path, trial: int, result: RunResult) -> None:
    """Writes the tables anew, with what a trial has come to since it was resumed alone.

    Raises:
      ValueError: another process uses them, or they have no such trial.
    """
    now = {name: value for name, value in flat(result).items() if name not in ("trial", "seed")}
    with locked(directory / "lock", directory):
        rows = read_table(directory)
        check("trial", trial, any(row["trial"] == trial for row in rows), "one of the sweep")
        write_tables(directory, [row | now if row["trial"] == trial else row for row in rows])


def swept(row: Row) -> dict[str, Any]:
    """The swept fields of a row."""
    return {name: value for name, value in row.items() if is_swept(name)}


def _value(text: str) -> Any:
    """A cell as the number that it was, or as text; None where the trial has no such field."""
    if text in ("True", "False") or text.startswith("["):
        return ast.literal_eval(text)
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text or None


def _column(values: list[Any]) -> list[Any]:
    """A column that a table can hold: values of one kind, or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [value if value is None else json.dumps(value) for value in values]
