"""The devices of this process: how many there are on a CPU, with which flags, and their memory.

XLA is kept from what makes the bits of a run depend on the number of devices, or on shapes.
"""

import contextlib
import math
import os
import platform
import re
import resource
import warnings
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from jax._src import (
    xla_bridge,  # the only one that says whether JAX has started, without starting it
)

from jaxes.checks import check_count

# Sums and greatest values of 4,096 terms or more are computed by a library: in another order, and
# wrongly. Empty, this flag of XLA turns it off.
REDUCTIONS_FLAG = "xla_cpu_experimental_ynn_fusion_type"
# The jaxlib releases that know the flag (on an unknown one XLA ends the process), and what was seen
# without it: `tests/test_reductions.py`.
WRONG_REDUCTIONS = {
    (0, 10): "0.10.2: jnp.max overlooks a NaN; sums of vmapped products are off by a percent",
    (0, 11): "0.11.2: jnp.max overlooks a NaN",
    (0, 12): "0.12.0.1: jnp.max overlooks a NaN",
}

CPU_FLAGS = {
    # A device waits for the one with the longest episodes; XLA would end the process after 40 s.
    "xla_cpu_collective_call_terminate_timeout_seconds": "1000000",
    REDUCTIONS_FLAG: "",
}
if platform.machine() in ("x86_64", "AMD64"):
    # Instructions without a fused multiply-add, because where the compiler fuses depends on shapes.
    # It costs physics a tenth of its speed.
    CPU_FLAGS["xla_cpu_max_isa"] = "AVX"
if jax.__version_info__ < (0, 11):
    # The older code generator: a fifth faster on physics, and twice as fast to compile.
    CPU_FLAGS["xla_cpu_use_fusion_emitters"] = "false"


# Loops over at most so many bytes become one kernel, which is twice as fast for a planner as one
# for each operation; XLA's own bound is 1,024.
SMALL_LOOPS = {
    "xla_backend_extra_options": "xla_cpu_small_while_loop_byte_threshold=100000",
}


def guard_reductions() -> None:
    """Keeps XLA's CPU backend from wrong sums, where this jaxlib has them; called by the import.

    Appends one flag to XLA_FLAGS, unless it is there; warns where JAX has started already.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if REDUCTIONS_FLAG in given or jaxlib.version.__version_info__[:2] not in WRONG_REDUCTIONS:
        return
    if not xla_bridge.backends_are_initialized():
        os.environ["XLA_FLAGS"] = f"{given} --{REDUCTIONS_FLAG}=".strip()
    elif jax.default_backend() == "cpu":
        warnings.warn(
            f"jaxlib {jaxlib.version.__version__} computes some sums and maxima wrongly on CPU, "
            "and JAX has started already: import jaxes before it does, or set "
            f"XLA_FLAGS=--{REDUCTIONS_FLAG}=",
            stacklevel=3,
        )


def num_cores() -> int:
    """Of this process: those that it may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cpu_devices(n: int | None = None, small_loops: bool = False) -> int:
    """Makes JAX run on `n` CPU devices; by default one for each core of this process.

    One device uses one core: a physics step is a chain of small operations, which more threads
    would only hand to and fro, so that XLA gets as many as there are devices (NPROC). It gets the
    flags that make the last bits independent of `n` and physics fast (`CPU_FLAGS`), but for those
    that XLA_FLAGS names already. The command line calls this; from Python call it before JAX does
    anything else. Where JAX runs already, on `n` devices, nothing is changed, and its flags are
    those that it started with.

    Args:
      n: how many.
      small_loops: compiles loops over little data as one kernel. Planning is twice as fast then,
        and `jaxes plan` asks for it; the bits of training depend on `n` with it.

    Returns:
      n.

    Raises:
      ValueError: `n` is not a number of at least 1.
      RuntimeError: JAX has started already, with another number of devices.

    Example:
      >>> jaxes.use_cpu_devices()
    """
    n = num_cores() if n is None else n
    check_count("n", n)
    if xla_bridge.backends_are_initialized():
        # The environment stays as it is: what is in it now would reach other processes alone.
        if (running := len(jax.devices("cpu"))) != n:
            raise RuntimeError(
                f"use_cpu_devices({n}) must be called before JAX does anything else: it runs "
                f"already, on {running} CPU devices"
            )
        return n
    given = os.environ.get("XLA_FLAGS", "")
    wanted = CPU_FLAGS | (SMALL_LOOPS if small_loops else {})
    flags = [f"--{name}={value}" for name, value in wanted.items() if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *flags]).strip()
    os.environ["NPROC"] = str(n)  # what XLA takes for the number of cores, and so of its threads
    jax.config.update("jax_num_cpu_devices", n)
    return n


def free_bytes() -> int:
    """Of the memory that devices have: a GPU's own, or the machine's, or the container's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        available = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(available[1]) * 1024 if available else free
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            free = min(free, limit - pages * resource.getpagesize())
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or no limit: `max`
        container = Path("/sys/fs/cgroup")
        limit = int((container / "memory.max").read_text())
        used = int((container / "memory.current").read_text())
        # Files that were read lie there as long as nobody needs the room.
        files = re.search(r"inactive_file (\d+)", (container / "memory.stat").read_text())
        free = min(free, limit - used + (int(files[1]) if files else 0))
    return free


def check_memory(state: Any, dim: int) -> None:
    """Raises a ValueError if a strategy's state and what updates it cannot fit into the memory."""
    leaves = jax.tree.leaves(state)
    needed = 3 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    if needed > (free := free_bytes()):
        raise ValueError(
            f"strategy must be one whose memory is there: at {dim:,} parameters this one needs "
            f"about {needed / 1e9:.1f} GB of the {free / 1e9:.1f} that are free; jaxes.sep_cma_es "
            "and jaxes.lm_ma_es need a few times the parameters"
        )
