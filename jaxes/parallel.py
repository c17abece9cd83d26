"""The mesh of all devices, and what they tell each other.

An update step is the same program on every device. All hold the same state and repeat the same
small update; only episodes and chunks of members are divided, and only their results are exchanged.

The mesh has two axes. Along `member` lie the devices of one process, a host: they share memory,
and divide its work as they come to it. Along `host` lie processes, joined by a network: each has a
fixed share of the jobs, known to all, and they exchange once a generation what jobs came to, and
integer sums; each device of a host sends a part of that. So what crosses the network depends on the
number of jobs, not on that of parameters, and no bit of a run depends on the mesh.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxes.checks import check_count, is_key
from jaxes.hosts import world

HOST, MEMBER = "host", "member"  # the axes of the mesh
T = TypeVar("T")


def make_mesh(devices: int | Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh `[hosts, devices of each]` of these devices, or of so many of this process; by default
    of all of this process, or of all processes that `jaxes.use_hosts` has joined.

    Raises:
      ValueError: there are not so many, or processes have different numbers of them.
    """
    local = jax.local_devices()
    if isinstance(devices, int):
        check_count("devices", devices, maximum=len(local))
        devices = local[:devices]
    elif devices is None:
        devices = jax.devices() if world.joined() else local
    rows: dict[int, list[jax.Device]] = {}
    for device in cast(Sequence[jax.Device], devices):
        rows.setdefault(device.process_index, []).append(device)
    sizes = {process: len(row) for process, row in sorted(rows.items())}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"process {process} has {size}" for process, size in sizes.items())
        raise ValueError(f"devices must be as many in each process: {said}")
    return Mesh(np.array([rows[process] for process in sizes]), (HOST, MEMBER))


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
            in_specs=(PartitionSpec(), PartitionSpec(MEMBER)),
            out_specs=PartitionSpec(MEMBER),
            check_vma=False,
        )
        return share(shared, rows)

    def run(shared: Any, rows: Any) -> T:
        size = jax.tree.leaves(rows)[0].shape[0]
        mesh = make_mesh(min(size, jax.local_device_count()))
        count = mesh.devices.size
        whole = -(-size // count) * count  # the last row again, where a device has none left
        rows = jax.tree.map(lambda leaf: leaf[jnp.minimum(jnp.arange(whole), size - 1)], rows)
        rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(MEMBER)))
        results = program(mesh, place(shared, mesh), rows)
        if count == 1:
            return results
        # By the host: a slice of what several devices hold would be a collective a leaf, and a
        # queue of these hangs on CPU.
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[:size]), results)

    return run


def place(tree: T, mesh: Mesh | None = None) -> T:
    """A copy of the tree on every device of the mesh. All processes of the mesh must call it, with
    the same tree."""
    sharding = NamedSharding(mesh or make_mesh(), PartitionSpec())
    return jax.tree.map(lambda leaf: place_as(leaf, sharding), tree)


def place_as(leaf: Any, sharding: Any) -> Array:
    """The array with this sharding, which may be of devices of other processes as well."""
    if sharding.is_fully_addressable or isinstance(leaf, jax.core.Tracer):
        return jax.device_put(leaf, sharding)
    if is_key(leaf):
        numbers = place_as(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))
    data = np.asarray(leaf)
    return jax.make_array_from_callback(data.shape, sharding, lambda index: data[index])


def local(tree: T) -> T:
    """What is on all devices, on the first one of this process: who looks at it then waits for no
    other process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree) if world.joined() else tree


# Inside a replicated function; outside of one there is a single device.


def num_devices() -> int:
    """Of this host."""
    return _axis_size(MEMBER)


def num_hosts() -> int:
    return _axis_size(HOST)


def _axis_size(axis: str) -> int:
    try:
        return jax.lax.axis_size(axis)
    except NameError:
        return 1


def device_index() -> Array | int:
    """Among those of this host."""
    return jax.lax.axis_index(MEMBER) if num_devices() > 1 else 0


def host_index() -> Array | int:
    return jax.lax.axis_index(HOST) if num_hosts() > 1 else 0


def host_sum(tree: Any) -> Any:
    """The sum over the devices of this host."""
    return jax.lax.psum(tree, MEMBER) if num_devices() > 1 else tree


def all_sum(tree: Any) -> Any:
    """The sum over all devices of all hosts. Of hosts, only integers add up in any order."""
    return jax.tree.map(sum_over_hosts, host_sum(tree))


def all_max(tree: Any) -> Any:
    """The greatest over all devices of all hosts."""
    here = jax.lax.pmax(tree, MEMBER) if num_devices() > 1 else tree
    if num_hosts() == 1:
        return here
    return jax.tree.map(functools.partial(_across_hosts, lambda x: jax.lax.pmax(x, HOST)), here)


def sum_over_hosts(x: Array) -> Array:
    """Of what is the same on all devices of a host."""
    if num_hosts() == 1:
        return x
    return _across_hosts(lambda x: jax.lax.psum(x, HOST), x)


def gather_over_hosts(x: Array) -> Array:
    """Of what is the same on all devices of a host: `[hosts, ...]`."""
    if num_hosts() == 1:
        return x[None]
    return _across_hosts(lambda x: jax.lax.all_gather(x, HOST), x)


def _across_hosts(exchange: Callable[[Array], Array], x: Array) -> Array:
    """What `exchange` makes of x along the hosts, `[..., n]` of `[n]`, where x is the same on all
    devices of a host: each of them exchanges a part of it, so that nothing is sent twice."""
    flat, count = x.reshape(-1), num_devices()
    if flat.size < count or count == 1:
        result = exchange(flat)
    else:
        size = -(-flat.size // count)
        padded = jnp.pad(flat, (0, size * count - flat.size))
        part = jax.lax.dynamic_slice_in_dim(padded, device_index() * size, size)
        parts = exchange(part)
        result = jax.lax.all_gather(parts, MEMBER, axis=parts.ndim - 1, tiled=True)
    result = result[..., : flat.size]
    return result.reshape(*result.shape[:-1], *x.shape)


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


class _Seats(NamedTuple):
    """Where jobs [J] are at home: pairs of pending ones are dealt out to hosts like cards.

    Attributes:
      host: int32 [J], whose each is.
      place: int32 [J], its place among those of its host, below `size`.
      size: how many a host can have.
    """

    host: Array
    place: Array
    size: int


def _seats(pending: Array) -> _Seats:
    count = num_hosts()
    order = jnp.cumsum(pending, dtype=jnp.int32) - 1
    pair = order // 2
    pairs = (pending.size + 1) // 2
    size = 2 * -(-pairs // count)
    return _Seats(pair % count, pair // count * 2 + order % 2, size)


def share_of_host(pending: Array) -> Array:
    """This host's share of the jobs that are pending: bool `[J]` on all devices -> bool `[J]`."""
    return pending & (_seats(pending).host == host_index()) if num_hosts() > 1 else pending


def divide(pending: Array) -> Array:
    """This device's share of its host's jobs that are pending: bool `[J]` on all devices of the
    host -> bool `[J]`.

    They are dealt out like cards, two at a time: a device that begins both members of an antithetic
    pair draws their noise once. Shares differ by two at most.
    """
    order = jnp.cumsum(pending, dtype=jnp.int32) - 1
    return pending & (order // 2 % num_devices() == device_index())


def collect(tree: Any, pending: Array) -> Any:
    """What all jobs left, `[J]` in each leaf, of which each device has the rows of the jobs that it
    ran, and zeros elsewhere; on all devices the same.

    Rows are exchanged as words of 32 bits, and across hosts each host sends those of its share.

    Args:
      tree: numbers or flags.
      pending: bool [J], as `share_of_host` was given it; the same on all devices.
    """
    if num_devices() == num_hosts() == 1:
        return tree
    words = host_sum(_as_words(tree))  # zero on all devices but one, so that it is exact
    if num_hosts() > 1:
        seats = _seats(pending)
        mine = pending & (seats.host == host_index())
        own = jnp.zeros((seats.size, words.shape[1]), words.dtype)
        own = own.at[jnp.where(mine, seats.place, seats.size)].set(words, mode="drop")
        gathered = gather_over_hosts(own)

        def in_order() -> Array:
            rows = gathered.at[seats.host, seats.place].get(mode="clip")
            return jnp.where(pending[:, None], rows, 0)

        # In a branch, or XLA fuses it with sums over jobs, which then are taken in another order.
        words = jax.lax.cond(jnp.any(pending), in_order, lambda: jnp.zeros_like(words))
    return _from_words(words, tree)


def collect_tested(tree: Any, tested: Array) -> Any:
    """`collect` of other rows where `tested` is true; what comes where it is not says nothing.
    Nobody knows whose these rows are, so that twice the words are exchanged.

    Args:
      tested: bool [], the same on all devices.
    """
    if num_devices() == num_hosts() == 1 or not jax.tree.leaves(tree):
        return tree
    words = _as_words(tree)
    return _from_words(jax.lax.cond(tested, all_sum, jnp.zeros_like, words), tree)


def _as_words(tree: Any) -> Array:
    """Leaves `[J, ...]` as `[J, W]` of int32."""

    def words(leaf: Array) -> Array:
        if leaf.dtype.itemsize < 4:
            leaf = leaf.astype(jnp.int32)
        return jax.lax.bitcast_convert_type(leaf, jnp.int32).reshape(leaf.shape[0], -1)

    return jnp.concatenate([words(leaf) for leaf in jax.tree.leaves(tree)], axis=1)


def _from_words(words: Array, like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    found, begin = [], 0
    for leaf in leaves:
        each = max(leaf.dtype.itemsize // 4, 1)
        width = leaf.size // leaf.shape[0] * each
        part = words[:, begin : begin + width].reshape(*leaf.shape, *((each,) if each > 1 else ()))
        begin += width
        small = leaf.dtype.itemsize < 4
        found.append(
            part.astype(leaf.dtype) if small else jax.lax.bitcast_convert_type(part, leaf.dtype)
        )
    return jax.tree.unflatten(structure, found)


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


def map_divided(fn: Callable[[Any], T], rows: Any, batched: bool = False, hosts: bool = False) -> T:
    """`fn` of each row of a tree's leaves, one after another or batched; each device of a host does
    its share, and all get the results.

    Args:
      hosts: hosts have shares as well, for results that are a few numbers a row; otherwise each
        host does all rows.
    """
    mapped = jax.vmap(fn) if batched else functools.partial(jax.lax.map, fn)
    num_shares = num_hosts() if hosts else 1
    count, size = num_devices() * num_shares, jax.tree.leaves(rows)[0].shape[0]
    if count == 1 or size == 1:  # a single row is computed everywhere, and nothing exchanged
        return mapped(rows)
    rounds = -(-size // count)
    share = device_index() * num_shares + (host_index() if hosts else 0)
    row = jnp.arange(rounds) * count + share  # the last of them may be too many
    out = mapped(jax.tree.map(lambda leaf: leaf[jnp.minimum(row, size - 1)], rows))
    if num_shares > 1:
        out = jax.lax.all_gather(out, HOST, axis=1)
    else:
        out = jax.tree.map(lambda leaf: leaf[:, None], out)
    if num_devices() > 1:
        out = jax.lax.all_gather(out, MEMBER, axis=1)  # [rounds, devices, hosts, ...]
    else:
        out = jax.tree.map(lambda leaf: leaf[:, None], out)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:])[:size], out)
