"""What a checkpoint must hold: the SHA-256 of its files, and shape, dtype, SHA-256 of its leaves.

Storage formats notice few damages by themselves: a flipped bit in an array is another number. Files
are compared before they are read, since what reads damaged ones may do anything; leaves after it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxes.files import digest_of, files_of, read_json, write_whole

FILE = "manifest.json"
Leaves = Mapping[str, np.ndarray]  # by name, such as `.strategy.mean`
Manifest = dict[str, Any]


def describe(leaf: np.ndarray) -> dict[str, Any]:
    """What the manifest says of a leaf; the hash is of its numbers in C order."""
    digest = digest_of(leaf.tobytes())
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": digest}


def write(directory: Path, generation: int, leaves: Leaves) -> None:
    """Writes that of the leaves of this generation and of all files that are there."""
    content = {
        "generation": int(generation),  # which may be one of NumPy
        "leaves": {name: describe(np.asarray(leaf)) for name, leaf in leaves.items()},
        "files": _hashes(directory),
    }
    write_whole(directory / FILE, json.dumps(content, indent=1))


def read(directory: Path, generation: int) -> Manifest:
    """That of a checkpoint, after a look at its files.

    Raises:
      ValueError: one is not what was written, or the manifest cannot be read.
      OSError: there is no manifest.
    """
    content = read_json(directory / FILE, {"generation": int, "leaves": dict, "files": dict})
    if content["generation"] != generation:
        raise ValueError(f"its manifest is that of generation {content['generation']}")
    compare("file", _hashes(directory), content["files"])
    return content


def check_leaves(content: Manifest, leaves: Leaves) -> None:
    """Raises a ValueError where the leaves are not those of the manifest."""
    found = {name: describe(leaf) for name, leaf in leaves.items()}
    compare("leaf", found, content["leaves"])


def compare(what: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises a ValueError that names the first difference."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise ValueError(f"its {what} {name} is missing")
        if found[name] != expected.get(name):
            raise ValueError(f"its {what} {name} is not what was saved")


def _hashes(directory: Path) -> dict[str, str]:
    """Of all files but the manifest, by their paths within the directory."""
    return {
        path.relative_to(directory).as_posix(): digest_of(path.read_bytes())
        for path in files_of(directory)
        if path.name != FILE
    }
