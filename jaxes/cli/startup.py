"""Before JAX starts: where it keeps compiled programs."""

import os
from pathlib import Path

import jax
import platformdirs

from jaxes.checks import check

MAX_BYTES = 4 * 2**30  # the programs that were used longest ago make way


def keep_compiled_programs(directory: str | None = None) -> None:
    """Keeps compiled programs, so that the next process does not compile them again.

    Args:
      directory: where; `none` keeps none. By default the platform's folder for caches; but where
        JAX_COMPILATION_CACHE_DIR is set, everything is left to JAX.

    Raises:
      ValueError: `directory` is empty.
      OSError: it cannot be made.
    """
    check("--cache-dir", directory, directory != "", "a folder, or none")
    jax.config.update("jax_enable_compilation_cache", directory != "none")
    if directory == "none" or (directory is None and "JAX_COMPILATION_CACHE_DIR" in os.environ):
        return
    path = Path(directory or platformdirs.user_cache_path("jaxes") / "compiled").absolute()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
