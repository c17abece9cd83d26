"""Set before jax is imported: most of the tests' time is compilation, and this halves it."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
