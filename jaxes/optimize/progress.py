"""A search as far as it has come: what it is gone on with, in memory or from a directory."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxes.files import Arrays, write_arrays
from jaxes.optimize.start import StartState

FILES = ("run.json", "search.npz")


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
      solution: the best that was evaluated, a pytree of NumPy arrays like the mean given. In one
        compiled program it is rebuilt from its number: equal to what was evaluated up to rounding.
      value: its value, in the dtype of the mean; -inf (of `minimize` inf) where nothing that was
        evaluated had one, and the solution is then the start.
      evaluations: how many solutions were evaluated, in all starts.
      reason: why it stopped: `target`, `budget`, `callback`, `max_generations` (of the last
        restart), or a criterion of `Termination`; `none` while it goes on.
      starts: how many times the search was started.
      mean: the mean at the end of the last start, a pytree: the better answer if the function is
        noisy.
      progress: what `resume=` of another call goes on with.
    """

    solution: Any
    value: float
    evaluations: int
    reason: str
    starts: int
    mean: Any
    progress: "Progress | None" = None


class Progress(NamedTuple):
    """On the host; maximized, also where `minimize` was called.

    Attributes:
      identity: what must be the same of a call that goes on with it, as plain data.
      used: the evaluations of each start that is over.
      best: x `[D]`, the best of those starts, and its value.
      best_fitness: `[]`; -inf where there is none.
      start: the start after them, under way or ended.
    """

    identity: dict[str, Any]
    used: tuple[int, ...]
    best: np.ndarray
    best_fitness: np.ndarray
    start: StartState

    def __repr__(self) -> str:
        return f"Progress({len(self.used) + 1} starts)"


def save(directory: Path, progress: Progress) -> None:
    """Replaces what was saved before, in one step. The file can be read by NumPy alone."""
    arrays = {"used": np.asarray(progress.used, np.int64)}
    arrays |= {"best": progress.best, "best_fitness": progress.best_fitness}
    write_arrays(directory / "search.npz", arrays | _by_name(progress.start))


def load(
    directory: Path, identity: dict[str, Any], template_of: Callable[[tuple[int, ...]], StartState]
) -> Progress | None:
    """What was saved last; None where nothing was.

    Args:
      directory: a run directory.
      identity: of the search, which is that of `run.json`.
      template_of: the shapes and dtypes of the start after others, of which this is `used`.

    Raises:
      ValueError: the file is damaged.
    """
    path = directory / "search.npz"
    if not path.exists():
        return None
    arrays = Arrays("run_dir", path)
    used = tuple(arrays["used"].tolist())
    template = template_of(used)
    leaves = [arrays[name] for name in _by_name(template)]
    return Progress(
        identity=identity,
        used=used,
        best=arrays["best"],
        best_fitness=arrays["best_fitness"],
        start=jax.tree.unflatten(jax.tree.structure(template), leaves),
    )


def _by_name(start: StartState) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(start)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def digest(what: Any) -> Any:
    """Plain data that says what an array, or a pytree of them, is; long ones by their digest."""
    leaves, structure = jax.tree.flatten(what)
    arrays = [np.asarray(leaf) for leaf in leaves]
    if sum(array.size for array in arrays) <= 32:
        values: Any = [array.tolist() for array in arrays]
    else:
        values = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    dtypes = sorted({str(array.dtype) for array in arrays})
    return {"structure": str(structure), "dtypes": dtypes, "values": values}
