"""The rows of the table as they are kept: added to, written, read.

Run directories are not kept: the JSON of rows is, and the table is drawn from it.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table_settings import TASKS

from jaxes.files import read_json, write_whole

Row = Mapping[str, Any]


def merged(
    old: Sequence[dict[str, Any]], new: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All rows, and why some of the new ones are left out, by their directories: the rows of a task
    have one protocol, the same seeds, and the same kind of device."""
    rows = {(row["task"], row["algorithm"]): row for row in old}
    origins: dict[tuple[str, str], str] = {}
    refused: dict[str, str] = {}
    for path, row in new.items():
        key = row["task"], row["algorithm"]
        if key in origins:
            refused[path] = f"is a second one of {' by '.join(key)}, after {origins[key]}"
        elif other := next(filter(None, (_unlike(row, each) for each in rows.values())), None):
            refused[path] = other
        else:
            rows[key], origins[key] = row, path
    order = list(TASKS)
    return sorted(
        rows.values(), key=lambda row: (order.index(row["task"]), row["algorithm"])
    ), refused


def _unlike(row: Row, other: Row) -> str | None:
    """Why they can't stand in one table, if they can't."""
    name = f"the row of {other['task']} by {other['algorithm']} that is there"
    kinds = [each["machine"]["device"] for each in (row, other)]
    if kinds[0] != kinds[1]:
        return f"is of {kinds[0]}, and {name} of {kinds[1]}: choose another --output"
    if row["task"] != other["task"]:
        return None
    if row["protocol"] != other["protocol"]:
        return f"is of another protocol than {name}: {row['protocol']}, not {other['protocol']}"
    seeds, others = ([seed["seed"] for seed in each["seeds"]] for each in (row, other))
    return None if seeds == others else f"has {len(seeds)} seeds: {name} has {len(others)}"


def read(result: Path) -> dict[str, Any]:
    """A result of `write`.

    Raises:
      ValueError: there is none, or it is none.
    """
    if not result.exists():
        raise ValueError(f"{result}: there is no such file")
    return read_json(result, {"machine": dict, "rows": list, "searches": list, "films": dict})


def write(output: Path, content: Mapping[str, Any]) -> None:
    """As JSON, a list of numbers in a line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    lists = r"\[\s+([-\d.e+nul,\s]+?)\s+\]"
    text = re.sub(lists, lambda found: f"[{' '.join(found[1].split())}]", text)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text + "\n")


def mean_of_whole(about: Mapping[str, Any] | None) -> float:
    """Of what `ppo.py` wrote about being whole, the mean return; -inf where it was not run, or a
    seed diverged."""
    returns = about["returns"] if about else [None]
    return -math.inf if None in returns else float(np.mean(returns))


def best_of(rows: Iterable[Row]) -> tuple[Row, int] | None:
    """The row of strategies, and the seed in it, that ended with the greatest return."""
    mine = [row for row in rows if row["algorithm"] != "ppo"]
    row = max(mine, key=lambda row: returns_of(row).max(), default=None)
    if row is None or returns_of(row).max() == -math.inf:
        return None
    return row, int(returns_of(row).argmax())


def shown_by(row: Row, index: int) -> dict[str, Any]:
    """Which seed of the table a film is of."""
    seed = row["seeds"][index]
    about = {"algorithm": row["algorithm"], "seed": seed["seed"]}
    return about | {"return": seed["final"]["score"]}


def returns_of(row: Row) -> np.ndarray:
    """The returns [S] of the tests at the end, -inf of one that diverged."""
    scores = [seed["final"]["score"] for seed in row["seeds"]]
    return np.array([-math.inf if score is None else score for score in scores])
