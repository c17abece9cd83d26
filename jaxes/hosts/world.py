"""Whether this process is one of many that run as one, and which; and the board, a store of keys
and values that JAX's coordination service keeps in the first of them.

What is posted there may be read while a program runs or hangs, since no device takes part.
"""

import contextlib
from typing import Any, NamedTuple

import jax


class World(NamedTuple):
    """Processes that run as one: of how many this is which."""

    size: int
    place: int


_world = World(1, 0)
ROOM = "jaxes"  # before all keys on the board


def enter(size: int, place: int) -> None:
    """From now on this process is one of many."""
    global _world
    _world = World(size, place)


def count() -> int:
    """How many processes run as one."""
    return _world.size


def index() -> int:
    """Which of them this is."""
    return _world.place


def joined() -> bool:
    """Whether there are others."""
    return _world.size > 1


def is_first() -> bool:
    """Whether this is the process that writes, as one alone is."""
    return _world.place == 0


def post(name: str, text: str, again: bool = False) -> bool:
    """Writes on the board; returns whether nothing stood there before, unless `again`."""
    try:
        _client().key_value_set(f"{ROOM}/{name}", text, allow_overwrite=again)
    except jax.errors.JaxRuntimeError as error:
        if "ALREADY_EXISTS" in str(error):
            return False
        raise
    return True


def read(name: str) -> str | None:
    """What stands on the board there; None where nothing does."""
    try:
        return _client().key_value_try_get(f"{ROOM}/{name}")
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" in str(error):
            return None
        raise


def read_all(name: str) -> dict[str, str]:
    """All that stands under a name, by the rest of its name."""
    found = _client().key_value_dir_get(f"{ROOM}/{name}/")
    return {key.rpartition("/")[2]: text for key, text in found}


def wait_for(name: str, seconds: float) -> str | None:
    """What stands there, or will within so many seconds."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        return _client().blocking_key_value_get(f"{ROOM}/{name}", int(seconds * 1000))
    return read(name)


def _client() -> Any:
    from jax._src import distributed  # JAX has no public way to its board

    return distributed.global_state.client
