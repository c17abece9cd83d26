"""Before JAX starts: where it keeps compiled programs."""

import os
from pathlib import Path

import jax
import platformdirs
from rich.console import Console

from jaxes.checks import check
from jaxes.terminal import say

MAX_BYTES = 4 * 2**30  # the programs that were used longest ago make way


def keep_compiled_programs(directory: str | None, console: Console) -> None:
    """Keeps compiled programs, so that the next process does not compile them again; or says that
    they cannot be kept: a run does not need it.

    Args:
      directory: where; `none` keeps none. By default the platform's folder for caches; but where
        JAX_COMPILATION_CACHE_DIR is set, everything is left to JAX.
      console: where this is said.

    Raises:
      ValueError: `directory` is empty.
    """
    check("--cache-dir", directory, directory != "", "a folder, or none")
    jax.config.update("jax_enable_compilation_cache", directory != "none")
    if directory == "none" or (directory is None and "JAX_COMPILATION_CACHE_DIR" in os.environ):
        return
    path = Path(directory or platformdirs.user_cache_path("jaxes") / "compiled")
    if (problem := _unusable(path)) is not None:
        say(console, f"compiled programs are not kept: {problem} (--cache-dir chooses a folder)")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    path = path.absolute()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _unusable(path: Path) -> str | None:
    """Why no files can be written in a folder, which is made if need be; None where they can."""
    if path.parts[:1] == ("~",):  # the user has no home
        return f"there is no folder {path}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return str(error)
    return None if os.access(path, os.W_OK | os.X_OK) else f"{path} is not writable"
