"""Set before jax is imported: most of the tests' time is compilation, and this halves it.

Level 0 takes a fifth less again, and breaks bits: what is fused into other loops rounds otherwise.
"""

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

flags = "--xla_backend_optimization_level=1"
if tuple(map(int, version("jax").split(".")[:2])) < (0, 11):
    flags += " --xla_cpu_use_fusion_emitters=false"  # see jaxes/devices.py: a quarter faster here
os.environ.setdefault("XLA_FLAGS", flags)

# Each worker is one device, and needs no more threads than that (jaxes/devices.py).
os.environ["NPROC"] = "1"

# Programs that several tests or processes run are compiled once, the small ones of operations alone
# too: they are most. The folder is this test run's own; workers and subprocesses inherit its name.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="jaxes-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name

# `adapters` is imported by tests and by the processes that they start.
_folder = str(Path(__file__).parent)
sys.path.insert(0, _folder)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_folder, os.environ.get("PYTHONPATH")]))

# JAX starts here, with these flags: a command that a test calls in this process may otherwise be
# the first, and would leave its own flags to all that is started after it.
import jax  # noqa: E402

import jaxes  # noqa: E402, F401

jax.devices()


def _variables():
    """Those that JAX and XLA read, and Python in processes; packages set others on their import."""
    names = ("JAX_", "XLA_", "NPROC", "OMP_", "PYTHONPATH")
    return {name: x for name, x in os.environ.items() if name.startswith(names)}


@pytest.fixture(autouse=True)
def environment_stays():
    """A test that leaves something there has failed, and others do not see it: flags of XLA, say,
    would reach the processes that they start."""
    before = _variables()
    yield
    left = _variables()
    for name in left.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    assert left == before


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The directory of a finished sweep: read it, and copy it to change it."""
    from sweep_runs import run, write

    folder = tmp_path_factory.mktemp("sweep")
    run("sweep", write(folder / "sweep.yaml"), "--run-dir", folder / "done")
    return folder / "done"
