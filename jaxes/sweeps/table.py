"""What the trials of a sweep came to: tables, and which configuration is best."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxes.files import write_whole
from jaxes.statistics import interquartile_mean
from jaxes.training.run import RunResult, Trial

# Of a result, what is no column: of the process, not of the trial.
NOT_COLUMNS = ("state", "run_dir", "compile_seconds", "values")
COLUMNS = tuple(name for name in RunResult._fields if name not in NOT_COLUMNS)


def rank_key(rows: Sequence[Mapping[str, Any]]) -> tuple[bool, float]:
    """What configurations are sorted by, from the rows of their seeds: those that halving dropped
    or that diverged come last; then the interquartile mean of the returns counts."""
    middle = float(interquartile_mean(returns_of(rows)))
    out = any(row["status"] == "dropped" for row in rows) or not math.isfinite(middle)
    return out, math.inf if math.isnan(middle) else -middle


def returns_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The final returns [S] of a configuration's seeds; -inf of one that diverged."""
    returns = [-math.inf if row["status"] == "diverged" else row["return_mean"] for row in rows]
    return np.array(returns, float)


def flat(result: RunResult) -> dict[str, Any]:
    """A row of the table: the swept fields are columns of their own."""
    row = {name: getattr(result, name) for name in COLUMNS}
    first = {name: row.pop(name) for name in ("trial", "seed")}
    return first | result.values | row


def best_trial(trials: Sequence[Trial], results: Sequence[RunResult]) -> Trial | None:
    """The first trial of the configuration that ranks first; None where all diverged."""
    if all(result.status == "diverged" for result in results):
        return None
    first: dict[str, Trial] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for trial, result in zip(trials, results, strict=True):
        first.setdefault(trial.configuration_key, trial)
        rows.setdefault(trial.configuration_key, []).append(flat(result))
    return first[min(rows, key=lambda key: rank_key(rows[key]))]


def write_tables(directory: Path, trials: Sequence[Trial], results: Sequence[RunResult]) -> None:
    """Writes `results.csv`, `results.parquet`, and `best.yaml` where the best has a config."""
    import pyarrow
    import pyarrow.parquet

    rows = [flat(result) for result in results]
    names = sorted(
        dict.fromkeys(name for row in rows for name in row),
        key=lambda name: 0 if name in ("trial", "seed") else 2 if name in COLUMNS else 1,
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
    best = best_trial(trials, results)
    if best is not None and best.config is not None:
        write_whole(directory / "best.yaml", yaml.safe_dump(dict(best.config), sort_keys=False))


def _column(values: list[Any]) -> list[Any]:
    """A column that a table can hold: values of one kind, or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [value if value is None else json.dumps(value) for value in values]
