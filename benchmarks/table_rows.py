"""The rows of the table as they are kept: added to, written, read.

Run directories are not kept: the JSON of rows is, and the table is drawn from it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table_settings import TASKS

from jaxes.files import write_whole


def merged(
    old: Sequence[dict[str, Any]], new: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All rows, and why some of the new ones are left out, by their directories: a row is replaced
    by one of the same protocol with at least as many seeds alone."""
    rows = {(row["task"], row["algorithm"]): row for row in old}
    origins: dict[tuple[str, str], str] = {}
    refused: dict[str, str] = {}
    for path, row in new.items():
        key = row["task"], row["algorithm"]
        before = rows.get(key)
        if key in origins:
            refused[path] = f"is a second one of {' by '.join(key)}, after {origins[key]}"
        elif before and before["protocol"] != row["protocol"]:
            refused[path] = (
                f"is of another protocol than the row of {' by '.join(key)} that is there"
            )
        elif before and len(before["seeds"]) > len(row["seeds"]):
            refused[path] = (
                f"has {len(row['seeds'])} seeds: the row that is there has {len(before['seeds'])}"
            )
        else:
            rows[key], origins[key] = row, path
    order = list(TASKS)
    return sorted(
        rows.values(), key=lambda row: (order.index(row["task"]), row["algorithm"])
    ), refused


def write(output: Path, content: Mapping[str, Any]) -> None:
    """As JSON, a list of numbers in a line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    lists = r"\[\s+([-\d.e+nul,\s]+?)\s+\]"
    text = re.sub(lists, lambda found: f"[{' '.join(found[1].split())}]", text)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, text + "\n")


def returns_of(row: Mapping[str, Any]) -> np.ndarray:
    """The returns [S] of the tests at the end, -inf of one that diverged."""
    scores = [seed["final"]["score"] for seed in row["seeds"]]
    return np.array([-math.inf if score is None else score for score in scores])
