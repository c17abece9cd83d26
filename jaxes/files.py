"""Files and folders that are either there whole or not at all."""

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxes.checks import brief, check


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes beside the file and puts it in its place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path, fields: Mapping[str, type]) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
      fields: those that must be there, and their kinds.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
        for name, kind in fields.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"its {name} is {content.get(name)!r}"[:200])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {brief(error)}") from error
    return content


def digest_of(content: bytes | Mapping[str, Any]) -> str:
    """The SHA-256 of a file's content, or of plain data in whatever order its names stand."""
    if isinstance(content, Mapping):
        content = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def check_free(field: str, path: Any) -> None:
    """Raises a ValueError unless it is a path at which something new can be made."""
    check(field, path, isinstance(path, str | os.PathLike) and path != "", "a path")
    path = Path(path)
    if os.path.lexists(path):
        raise ValueError(f"{field}: {path} exists already; choose another")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{field}: {path} cannot be made: {parent} is no folder to write in")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder beside it, which is put in its place in one step once everything is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def size_of(directory: Path) -> int:
    """The bytes of all files in a directory; files that go away meanwhile count nothing."""
    total = 0
    for path in files_of(directory):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def files_of(directory: Path) -> list[Path]:
    """All files in a directory, in order; folders may go away meanwhile, which `rglob` minds."""
    walked = os.walk(directory)
    return sorted(Path(folder, name) for folder, _, names in walked for name in names)
