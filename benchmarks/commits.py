"""Commits side by side: a worktree each, and processes that import jaxes from it.

A tree is either a commit's temporary worktree or a folder as it is. Nothing of a commit is
installed: its package comes first in PYTHONPATH, before the one that this interpreter has.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def git(*words: str | Path) -> str:
    """What git says in this repository.

    Raises:
      SystemExit: it fails.
    """
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout.strip()


def full_hash(commit: str) -> str:
    """The commit's 40 digits."""
    return git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A temporary worktree of a commit, removed at the end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it is removed then as well
    with tempfile.TemporaryDirectory(prefix="jaxes-tree-") as folder:
        path = Path(folder) / commit[:12]
        git("worktree", "add", "--detach", "--quiet", path, commit)
        try:
            yield path
        finally:
            git("worktree", "remove", "--force", path)


def environment(tree: Path, cache: Path | None = None) -> dict[str, str]:
    """The environment variables of a process on CPU that imports jaxes from `tree`.

    The caller's own settings of JAX and XLA are left out: they would change bits and times.

    Args:
      tree: comes first in PYTHONPATH.
      cache: keeps compiled programs; None for none.
    """
    ours = ("JAX_", "XLA_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    found = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}
    if cache is None:
        found["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    else:
        found["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        found["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    return kept | found


def command(script: str, *words: str | int | Path) -> list[str]:
    """The command of another script of this folder."""
    return [sys.executable, str(Path(__file__).with_name(script)), *map(str, words)]


def imported_tree() -> Path:
    """In such a process: the tree that jaxes was imported from.

    Raises:
      SystemExit: it is not the one that this process is for.
    """
    import jaxes

    found, tree = Path(jaxes.__file__).resolve().parents[1], Path(os.environ["PYTHONPATH"])
    if found != tree.resolve():
        raise SystemExit(f"jaxes was imported from {found}, not from {tree}")
    return tree
