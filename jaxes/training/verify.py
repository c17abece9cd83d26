"""What of a run directory is whole: all that can be read is, and compared with its hashes."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from jaxes.checks import check
from jaxes.files import Arrays, files_of
from jaxes.training.identity import read_run
from jaxes.training.metrics import read_rows

Look = Callable[[Path], Any]


def verify(run_dir: Path, looks: Mapping[str, Look] | None = None) -> dict[Path, str | None]:
    """Each file and checkpoint of a run, a sweep with its trials, or a search, and what is wrong
    with it; None where nothing is.

    Args:
      run_dir: its directory.
      looks: what else raises a ValueError for a damaged file, by the file's name.

    Raises:
      ValueError: there is no run.
    """
    there = (run_dir / "run.json").exists()
    check("run", str(run_dir), there, "a run's directory, with a run.json")
    found: dict[Path, str | None] = {}
    for path, look in _parts(run_dir, LOOKS | dict(looks or {})):
        try:
            look()
            found[path] = None
        except (ValueError, OSError) as error:
            if path.exists():  # or the run has deleted it meanwhile
                found[path] = str(error)
    return found


def _parts(run_dir: Path, looks: Mapping[str, Look]) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """What is looked at, and how."""
    from jaxes.training.checkpoint import Checkpoints

    for path in files_of(run_dir):
        if path.name in looks:
            yield path, partial(looks[path.name], path)
    for pattern in ("checkpoints", "trials/*/checkpoints", "batches/*"):
        for path in sorted(run_dir.glob(pattern)):
            checkpoints = Checkpoints(path, read_only=True)
            for generation in checkpoints.generations():
                yield path / str(generation), partial(checkpoints.leaves, generation)


def _rows(path: Path) -> None:
    """Each generation has its row, those of all checkpoints among them."""
    from jaxes.training.checkpoint import Checkpoints

    rows, _ = read_rows(path)
    saved = Checkpoints(path.parent / "checkpoints", read_only=True).generations()
    last = max([*saved, *(row["generation"] for row in rows)], default=0)
    check("rows", len(rows), len(rows) == last, f"as many as generations, {last}")


def _config(path: Path) -> None:
    try:
        whole = isinstance(yaml.safe_load(path.read_bytes()), dict)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    check(path.name, "something else", whole, "sections")


LOOKS: dict[str, Look] = {
    "run.json": lambda path: read_run(path.parent),
    "config.yaml": _config,
    "metrics.jsonl": _rows,
    "start.npz": partial(Arrays, "start"),
    "search.npz": partial(Arrays, "search"),
}
