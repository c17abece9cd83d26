"""Devices: one a core on CPU, a mesh over all of them, and what they tell each other.

An update step is the same program on every device. All hold the same state and repeat the same
small update; only episodes and chunks of members are divided, and only their results are exchanged.
Their number does not change a bit of a run: XLA is kept from what makes bits depend on shapes.
"""

import contextlib
import functools
import math
import os
import platform
import re
import resource
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
from jax import Array
from jax._src import (
    xla_bridge,  # the only one that says whether JAX has started, without starting it
)
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxes.checks import check_count

AXIS = "member"  # of the mesh: along it, members of the population are divided
T = TypeVar("T")

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


def use_cpu_devices(n: int | None = None, small_loops: bool = False) -> int:
    """Makes JAX run on `n` CPU devices; by default one for each core of this process.

    One device uses about one core, whatever the size of its arrays, because a physics step is a
    chain of small operations. XLA gets the flags that make the last bits independent of `n` and
    physics fast (`CPU_FLAGS`), but for those that XLA_FLAGS names already. The command line calls
    this; from Python call it before JAX does anything else.

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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n = cores or 1 if n is None else n
    check_count("n", n)
    given = os.environ.get("XLA_FLAGS", "")
    wanted = CPU_FLAGS | (SMALL_LOOPS if small_loops else {})
    flags = [f"--{name}={value}" for name, value in wanted.items() if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *flags]).strip()
    try:
        jax.config.update("jax_num_cpu_devices", n)
    except RuntimeError as error:
        if len(jax.devices("cpu")) != n:
            raise RuntimeError(
                f"use_cpu_devices({n}) must be called before JAX does anything else: it runs "
                f"already, on {len(jax.devices('cpu'))} CPU devices"
            ) from error
    return n


def make_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh along the axis `member`, of these devices or so many local ones; by default of all.

    Raises:
      ValueError: there are not so many.
    """
    local = jax.local_devices()
    if isinstance(devices, int):
        check_count("devices", devices, maximum=len(local))
        devices = local[:devices]
    return Mesh(np.array(local if devices is None else devices), (AXIS,))


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


def replicated(fn: Callable[..., T], mesh: Mesh | None = None) -> Callable[..., T]:
    """`fn` on every device of the mesh, with the same arguments and the same results."""
    spec = PartitionSpec()
    return jax.shard_map(
        fn, mesh=mesh or make_mesh(), in_specs=spec, out_specs=spec, check_vma=False
    )


def divided(fn: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
    """`(shared, rows) -> results`, `fn(shared, row)` of each row of a tree's leaves, jitted; the
    devices divide the rows, and each does its share one after another. Nothing is exchanged."""

    @functools.partial(jax.jit, static_argnums=0)
    def program(mesh: Mesh, shared: Any, rows: Any) -> T:
        share = jax.shard_map(
            lambda shared, rows: jax.lax.map(functools.partial(fn, shared), rows),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        return share(shared, rows)

    def run(shared: Any, rows: Any) -> T:
        size = jax.tree.leaves(rows)[0].shape[0]
        mesh = make_mesh(min(size, jax.local_device_count()))
        count = mesh.devices.size
        whole = -(-size // count) * count  # the last row again, where a device has none left
        rows = jax.tree.map(lambda leaf: leaf[jnp.minimum(jnp.arange(whole), size - 1)], rows)
        rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(AXIS)))
        results = program(mesh, place(shared, mesh), rows)
        if count == 1:
            return results
        # By the host: a slice of what several devices hold would be a collective a leaf, and a
        # queue of these hangs on CPU.
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[:size]), results)

    return run


def place(tree: T, mesh: Mesh | None = None) -> T:
    """A copy of the tree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh or make_mesh(), PartitionSpec()))


# Inside a replicated function; outside of one there is a single device.


def num_devices() -> int:
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:
        return 1


def device_index() -> Array | int:
    return jax.lax.axis_index(AXIS) if num_devices() > 1 else 0


def all_sum(tree: Any) -> Any:
    """The sum over devices."""
    return jax.lax.psum(tree, AXIS) if num_devices() > 1 else tree


def all_max(tree: Any) -> Any:
    """The greatest over devices."""
    return jax.lax.pmax(tree, AXIS) if num_devices() > 1 else tree


def exact_sum(x: Array) -> Array:
    """The sum over the first axis and over devices, the same bits in whatever order it is taken.

    Integers add in any order. One scale, a power of two from the greatest |x| on any device, makes
    fixed-point numbers of all terms, in as many int32 words as keep each term to 24 bits below the
    greatest, with room for the carries. What is cut off is less than 2⁻²⁴ of the greatest in all;
    then the sum is rounded as float32 is.

    Args:
      x: float32 `[J, ...]`, finite, and zero on all devices but one for each of the J terms; at
        most 2²⁸ of them.

    Returns:
      float32 `[...]`.
    """
    check_count("terms", x.shape[0], maximum=2**28)
    spare = (x.shape[0] - 1).bit_length()  # that a sum of J terms may be longer than a term
    size = 29 - spare  # bits of a term in a word
    greatest = all_max(jnp.max(jnp.abs(x), axis=0))
    exponent = (jax.lax.bitcast_convert_type(greatest, jnp.int32) >> 23) - 127
    # Both powers are normal numbers. |x| < 2^(exponent + 1), or + 2 at the upper end: J terms of a
    # word stay below 2^31.
    exponent = jnp.clip(exponent, -126, 126)
    rest = x * _power_of_two(-exponent)
    words = []
    for _ in range(-(-(24 + spare) // size)):
        rest = rest * 2**size
        word = rest.astype(jnp.int32)  # towards zero
        rest = rest - word.astype(jnp.float32)
        words.append(jnp.sum(word, axis=0))
    total, carry = jnp.zeros_like(greatest), jnp.zeros_like(words[0])
    first, *others = all_sum(words)
    for word in reversed(others):
        word = word + carry
        carry = word >> size
        total = (total + (word - (carry << size)).astype(jnp.float32)) * 2.0**-size
    total = (total + (first + carry).astype(jnp.float32)) * 2.0**-size
    return total * _power_of_two(exponent)


def _power_of_two(exponent: Array) -> Array:
    """2^exponent to the last bit, for exponents from -126 to 127."""
    return jax.lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)


def collect(tree: Any) -> Any:
    """All rows of a tree, each of which is zero on all devices but one: the sum is exact."""
    flags = jax.tree.map(lambda leaf: leaf.dtype == bool, tree)
    numbers = jax.tree.map(lambda leaf, flag: leaf.astype(jnp.int32) if flag else leaf, tree, flags)
    return jax.tree.map(lambda leaf, flag: leaf > 0 if flag else leaf, all_sum(numbers), flags)


def divide(pending: Array) -> Array:
    """This device's share of the jobs that are pending: bool `[J]` on all devices -> bool `[J]`.

    They are dealt out like cards, two at a time: a device that begins both members of an antithetic
    pair draws their noise once. Shares differ by two at most.
    """
    order = jnp.cumsum(pending, dtype=jnp.int32) - 1
    return pending & (order // 2 % num_devices() == device_index())


def one_by_one(fn: Callable[..., T]) -> Callable[..., T]:
    """`fn`, which calls LAPACK; a vmap makes it take its matrices one after another, where several
    devices share a CPU.

    XLA hands a batch to the pool of threads in which it runs, and waits; with a thread a device, as
    is the default, the devices would wait for ever. More threads make physics slower by half.
    """
    alone = num_devices() == 1 or jax.default_backend() != "cpu"
    if alone:
        return fn
    return jax.custom_batching.sequential_vmap(lambda *matrices: fn(*matrices))  # without defaults


def map_divided(fn: Callable[[Any], T], rows: Any, batched: bool = False) -> T:
    """`fn` of each row of a tree's leaves, one after another or batched; each device does its
    share, and all get the results."""
    mapped = jax.vmap(fn) if batched else functools.partial(jax.lax.map, fn)
    count, size = num_devices(), jax.tree.leaves(rows)[0].shape[0]
    if count == 1 or size == 1:  # a single row is computed everywhere, and nothing exchanged
        return mapped(rows)
    rounds = -(-size // count)
    row = jnp.arange(rounds) * count + device_index()  # the last of them may be too many
    mine = mapped(jax.tree.map(lambda leaf: leaf[jnp.minimum(row, size - 1)], rows))
    gathered = jax.lax.all_gather(mine, AXIS, axis=1)  # [rounds, devices, ...]
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], gathered)
