"""The run directory: what is in it, and who may use it.

run.json       what the run is, what made it and how it ended: see `jaxes.training.identity`
config.yaml    the resolved config, where there is one
metrics.jsonl  one object a generation
start.npz      where it began, if that was given: see `jaxes.training.start`
stopped.json   the generation at which a callback ended it, if one did
checkpoints/   one directory a saved generation: see `jaxes.training.checkpoint`
lock           held by the process that runs it

docs/run_directory.md says all of it.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from jaxes.exits import DISK_FAILS
from jaxes.training.identity import check_identity, describe

RUN_FILES = (
    "run.json",
    "config.yaml",
    "start.npz",
    "metrics.jsonl",
    "stopped.json",
    "checkpoints",
)


@contextlib.contextmanager
def open_run_dir(
    run_dir: Path,
    identity: dict[str, Any],
    resume: bool,
    config: Mapping[str, Any] | None,
    files: tuple[str, ...] = RUN_FILES,
) -> Iterator[Callable[[], None]]:
    """Locks the directory for this process, and gives what claims it for this run: nothing is
    written before, and nothing is left of a new one that never was claimed.

    Args:
      run_dir: made where it is not there.
      identity: of the run; see `identity_of`.
      resume: whether the directory may hold this run already.
      config: kept as `config.yaml` of a new run.
      files: where any of these exists there is a run already.

    Raises:
      ValueError: the directory cannot be used, is in use, or holds something else.
    """
    _check_usable(run_dir, files)
    made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    locked_before = (run_dir / "lock").exists()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in DISK_FAILS:
            raise
        raise ValueError(f"run_dir: {run_dir} cannot be made: {error.strerror}") from error
    for path in (run_dir, *(run_dir / name for name in files)):
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"run_dir: {path} is not writable")
    with contextlib.ExitStack() as stack:
        sweep = sweep_of(run_dir)
        if sweep is not None and (sweep / "run.json").exists():  # a sweep holds its own lock
            stack.enter_context(locked(sweep / "lock", run_dir, fcntl.LOCK_SH))
        stack.enter_context(locked(run_dir / "lock", run_dir))
        found = [name for name in files if (run_dir / name).exists()]
        if found and not resume:
            raise ValueError(
                f"run_dir: {run_dir} already holds a run ({found[0]} exists already); resume it or "
                "choose another directory"
            )
        check_identity(run_dir, identity)
        try:
            yield lambda: describe(run_dir, identity, config)
        finally:
            if not locked_before and not (run_dir / "run.json").exists():
                with contextlib.suppress(OSError):  # something else is in it by now
                    (run_dir / "lock").unlink()
                    for path in made:
                        path.rmdir()


def _check_usable(run_dir: Path, files: tuple[str, ...]) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir: {run_dir} is not a directory")
    if any(character in str(run_dir.resolve()) for character in "*?[]"):
        # Orbax globs in the path and loses a checkpoint's data without an error.
        raise ValueError(f"run_dir must be a path without *, ?, [ and ], got {str(run_dir)!r}")
    try:
        str(run_dir.resolve()).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"run_dir must be a path in UTF-8, got {str(run_dir)!r}") from error


@contextlib.contextmanager
def locked(path: Path, run_dir: Path, kind: int = fcntl.LOCK_EX) -> Iterator[IO]:
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"run_dir: {run_dir} is in use by another process") from error
        yield lock


def trial_dir(sweep: Path, index: int) -> Path:
    """That of a sweep's trial."""
    return sweep / "trials" / f"{index:04d}"


def sweep_of(run_dir: Path) -> Path | None:
    """The directory of the sweep that the run is a trial of; None where it is none."""
    run_dir = run_dir.resolve()  # by whatever link or path it is reached
    return run_dir.parents[1] if run_dir.parent.name == "trials" else None
