"""What processes that run as one must not decide each for itself: it comes from the first, or from
what all of them say. A process alone agrees with itself, at no cost."""

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxes import parallel
from jaxes.checks import is_key
from jaxes.hosts import leaving, watch, world

T = TypeVar("T")
_numbers = itertools.count()


def of_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, as JSON has it; the others do not call it.

    All processes must ask in the same order. No device takes part, so that one may compile or read
    for long while the others wait.

    Raises:
      Whatever `make` raises; in the others `leaving.OthersFailedError`.
    """
    if not world.joined():
        return make()
    name = f"agreed/{next(_numbers)}"
    if world.is_first():
        text = json.dumps(make())
        world.post(name, text)
        return json.loads(text)
    return json.loads(_awaited(name))


def _awaited(name: str) -> str:
    """What will stand there on the board."""
    with watch.waiting():
        while (said := world.wait_for(name, seconds=1)) is None:
            leaving.raise_if_others_failed()
    return said


def from_first(tree: T) -> T:
    """The arrays of the first process, on all devices of all; the others give some of the same
    shapes and dtypes, and their keys."""
    mesh = parallel.make_mesh()
    leaves, structure = jax.tree.flatten(tree)
    plain = [np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in leaves]
    sizes = [array.nbytes for array in plain]
    whole = b"".join(array.tobytes() for array in plain)
    words = np.frombuffer(whole + bytes(-len(whole) % 4), np.int32)
    with watch.exchanging():
        received = _exchange(mesh, words, first=True).tobytes()
    begins = np.cumsum([0, *sizes])
    found = []
    for leaf, like, begin, size in zip(leaves, plain, begins, sizes, strict=False):
        array = np.frombuffer(received, like.dtype, size // like.itemsize, begin)
        placed: Any = parallel.place(array.reshape(like.shape), mesh)
        if is_key(leaf):
            placed = jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf))
        found.append(placed)
    return jax.tree.unflatten(structure, found)


def gathered(numbers: Sequence[float]) -> np.ndarray:
    """What each process says: float64 `[processes, K]`, of K numbers each."""
    row = np.asarray(numbers, np.float64)
    if not world.joined():
        return row[None]
    words = _exchange(parallel.make_mesh(), row.view(np.int32), first=False)
    return np.ascontiguousarray(words).view(np.float64)


def _exchange(mesh: Mesh, words: np.ndarray, first: bool) -> np.ndarray:
    """Words `[W]` of all processes `[processes, W]`, or those of the first `[W]`."""
    sharding = NamedSharding(mesh, PartitionSpec(parallel.HOST))
    shape = (mesh.devices.shape[0], words.size)
    rows = jax.make_array_from_process_local_data(sharding, words[None], shape)
    return np.asarray(_exchanged(mesh, first)(rows).addressable_data(0))


@functools.cache
def _exchanged(mesh: Mesh, first: bool) -> Callable[[Array], Array]:
    def on_a_device(row: Array) -> Array:
        if first:
            return parallel.sum_over_hosts(jnp.where(parallel.host_index() == 0, row[0], 0))
        return parallel.gather_over_hosts(row[0])

    return jax.jit(
        jax.shard_map(
            on_a_device,
            mesh=mesh,
            in_specs=PartitionSpec(parallel.HOST),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )


def wait_for_all() -> None:
    """Returns when all processes have come here, which no device notices, as it would an exchange
    that others do not begin within 30 s because they still compile."""
    check_same("program", {})


def check_same(what: str, mine: Mapping[str, Any]) -> None:
    """Raises a ValueError in the first process, and so ends all, where another one says something
    else of `what`, plain data, than it does; the message names that process and the first field."""
    if not world.joined():
        return
    number = next(_numbers)
    said = json.dumps(mine, default=lambda value: np.asarray(value).tolist())
    if world.is_first():
        expected = flat(json.loads(said))
        for process in range(1, world.count()):
            other = flat(json.loads(_awaited(f"said/{number}/{process}")))
            for field in expected | other:
                here, there = expected.get(field), other.get(field)
                if here != there:
                    raise ValueError(
                        f"{field}: all processes must have the same {what}: {there!r} in process "
                        f"{process} on {leaving.host_of(process)}, {here!r} in process 0"
                    )
    else:
        world.post(f"said/{number}/{world.index()}", said)
    of_first(lambda: None)


def flat(data: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one, by their paths."""
    if isinstance(data, dict):
        parts = [(f"{path}.{name}".removeprefix("."), value) for name, value in data.items()]
    elif isinstance(data, list):
        parts = [(f"{path}[{i}]", value) for i, value in enumerate(data)]
    else:
        return {path: data}
    return {name: leaf for at, value in parts for name, leaf in flat(value, at).items()}
