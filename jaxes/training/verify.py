"""What of a run directory is whole: all that can be read is, and compared with its hashes."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from jaxes.checks import check
from jaxes.files import Arrays, files_of
from jaxes.training.identity import read_run
from jaxes.training.metrics import read_rows


def verify(run_dir: Path) -> dict[Path, str | None]:
    """Each file and checkpoint of a run, a sweep with its trials, or a search, and what is wrong
    with it; None where nothing is.

    Raises:
      ValueError: there is no run.
    """
    there = (run_dir / "run.json").exists()
    check("run", str(run_dir), there, "a run's directory, with a run.json")
    found: dict[Path, str | None] = {}
    for path, look in _parts(run_dir):
        try:
            look()
            found[path] = None
        except (ValueError, OSError) as error:
            if path.exists():  # or the run has deleted it meanwhile
                found[path] = str(error)
    return found


def _parts(run_dir: Path) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """What is looked at, and how."""
    from jaxes.training.checkpoint import Checkpoints

    for path in files_of(run_dir):
        if path.name in LOOKS:
            yield path, partial(LOOKS[path.name], path)
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
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    check(path.name, "something else", whole, "sections")


LOOKS: dict[str, Callable[[Path], Any]] = {
    "run.json": lambda path: read_run(path.parent),
    "config.yaml": _config,
    "metrics.jsonl": _rows,
    "start.npz": partial(Arrays, "start"),
    "search.npz": partial(Arrays, "search"),
}
