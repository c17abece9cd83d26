"""Files that are either there whole or not at all."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxes.checks import brief


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes beside the file and puts it in its place in one step."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes an `.npz` file, which NumPy reads without jaxes."""
    content = io.BytesIO()
    np.savez(content, **dict(arrays))
    write_whole(path, content.getvalue())


class Arrays(dict[str, np.ndarray]):
    """Those of a file by name; one that is looked for in vain is an error that names the file."""

    def __init__(self, field: str, path: Path):
        self._what = f"{field}: {path} is damaged"
        try:
            with np.load(path, allow_pickle=False) as saved:
                super().__init__(saved)
        except Exception as error:  # whatever a damaged file makes NumPy raise
            raise ValueError(f"{self._what} ({brief(error)})") from error

    def __missing__(self, name: str) -> np.ndarray:
        raise ValueError(f"{self._what} (it lacks {name})")
