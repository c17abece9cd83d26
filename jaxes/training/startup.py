"""Before JAX starts: where it keeps compiled programs."""

import os
from pathlib import Path

import jax
import platformdirs

MAX_BYTES = 4 * 2**30  # the programs that were used longest ago make way


def keep_compiled_programs(directory: str | None = None) -> Path | None:
    """Keeps compiled programs, so that the next process does not compile them again.

    Args:
      directory: where; `none` keeps none. By default what JAX_COMPILATION_CACHE_DIR says, or
        the platform's folder for caches.

    Returns:
      The folder, if there is one.
    """
    if directory == "none":
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if directory is None:
        directory = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    path = Path(directory or platformdirs.user_cache_path("jaxes") / "compiled").absolute()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path
