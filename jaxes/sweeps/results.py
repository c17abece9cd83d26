"""Trials and what they came to: rows, tables, and which configuration is best."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxes.core import TrainHParams
from jaxes.training.run_dir import write_whole


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      number: its place in the sweep.
      seed: of all its randomness.
      values: of the fields that are swept, by name.
      hparams: all its traced numbers.
      config: the config of this run alone, where there is one.
    """

    number: int
    seed: int
    values: dict[str, Any]
    hparams: TrainHParams
    config: Mapping[str, Any] | None = None

    @property
    def configuration(self) -> str:
        """What is the same for all seeds of a configuration."""
        return json.dumps(self.values, default=float)


class Result(NamedTuple):
    """What a trial came to.

    Attributes:
      trial: its number.
      seed: of the trial.
      values: of the swept fields.
      status: `done`, `target` (reached), `dropped` (by halving), or `diverged`, dropped or not: the
        final test has no finite value, or no member of the last generation had one.
      generation: generations completed.
      return_mean: return of the mean policy, averaged over fresh test episodes.
      return_std: its standard deviation over these episodes.
      best_return: the greatest mean return of a test on the way.
      env_steps: of training.
      seconds: the trial's share of the time, by its steps.
      diverged: episodes that ended because the physics diverged.
    """

    trial: int
    seed: int
    values: dict[str, Any]
    status: str
    generation: int
    return_mean: float
    return_std: float
    best_return: float
    env_steps: int
    seconds: float
    diverged: int


def standing(rows: Sequence[Mapping[str, Any]]) -> tuple[bool, float]:
    """What configurations are sorted by, from the rows of their seeds: those that halving dropped
    or that diverged come last; then the interquartile mean of the returns counts."""
    middle = float(interquartile_mean(returns_of(rows)))
    out = any(row["status"] == "dropped" for row in rows) or not math.isfinite(middle)
    return out, math.inf if math.isnan(middle) else -middle


def interquartile_mean(samples: np.ndarray, axis: int = 0) -> Any:
    """The mean without the least and the greatest quarter of the samples."""
    import scipy.stats  # here, since it takes half a second and most runs rank nothing

    return scipy.stats.trim_mean(samples, 0.25, axis=axis)


def returns_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The final returns [S] of a configuration's seeds; -inf of one that diverged."""
    returns = [-math.inf if row["status"] == "diverged" else row["return_mean"] for row in rows]
    return np.array(returns, float)


def flat(result: Result) -> dict[str, Any]:
    """A row of the table: the swept fields are columns of their own."""
    row = result._asdict()
    values = row.pop("values")
    first = {name: row.pop(name) for name in ("trial", "seed")}
    return first | values | row


def write_tables(directory: Path, results: Sequence[Result]) -> None:
    """Writes `results.csv` and `results.parquet`."""
    import pyarrow
    import pyarrow.parquet

    rows = [flat(result) for result in results]
    names = sorted(
        dict.fromkeys(name for row in rows for name in row),
        key=lambda name: 0 if name in ("trial", "seed") else 2 if name in Result._fields else 1,
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


def _column(values: list[Any]) -> list[Any]:
    """A column that a table can hold: values of one kind, or text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [value if value is None else json.dumps(value) for value in values]


def is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
