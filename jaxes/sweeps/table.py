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
from jaxes.training.run import RunResult, Trial, configuration_key

# Of a result, what is no column: of the process, not of the trial.
NOT_COLUMNS = ("state", "run_dir", "compile_seconds", "values")
COLUMNS = tuple(name for name in RunResult._fields if name not in NOT_COLUMNS)


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
    return first | result.values | row


def best_of(results: Sequence[RunResult]) -> RunResult | None:
    """Of the configuration that ranks first the run with the greatest score; None where all
    diverged."""
    if all(result.status == "diverged" for result in results):
        return None
    configurations: dict[str, list[RunResult]] = {}
    for result in results:
        configurations.setdefault(configuration_key(result.values), []).append(result)
    first = min(configurations.values(), key=lambda runs: rank_key([flat(run) for run in runs]))
    return max(first, key=lambda run: run.score)


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
    best = best_of(results)
    configs = (trial.config for trial in trials if best is not None and trial.values == best.values)
    if (config := next(configs, None)) is not None:  # of the first seed
        write_whole(directory / "best.yaml", yaml.safe_dump(dict(config), sort_keys=False))


def _column(values: list[Any]) -> list[Any]:
    """A column that a table can hold: values of one kind, or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [value if value is None else json.dumps(value) for value in values]
