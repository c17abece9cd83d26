"""What every host repeats: the update, for which each draws the noise of all members again."""

import time

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.gaussian import CHUNK_SIZE

DRAWN = 2**18  # numbers of a trial draw
REPEATS = 5


def describe(count: int, seconds: float) -> str:
    """What to say of `count` numbers of noise a generation, which takes `seconds`."""
    rate = draws_per_second()
    own = count / rate
    limit = max(seconds - own, 0) * rate
    return (
        f"each process draws all noise for its update, {count:,} numbers (members x parameters): "
        f"about {own * 1000:.2g} ms of {seconds * 1000:.2g} ms a generation; from some "
        f"{float(f'{limit:.1g}'):,.0f} on this takes longer than the episodes"
    )


def draws_per_second() -> float:
    """Normal numbers that one device draws and adds up, in chunks like those of an update."""
    size = DRAWN // CHUNK_SIZE

    @jax.jit
    def draw(key: Array) -> Array:
        def chunk(key: Array) -> Array:
            return jnp.ones(CHUNK_SIZE) @ jax.random.normal(key, (CHUNK_SIZE, size))

        return jax.lax.map(chunk, jax.random.split(key, 4)).sum(axis=0)

    key = jax.random.key(0)
    jax.block_until_ready(draw(key))
    seconds = []
    for _ in range(REPEATS):
        started = time.monotonic()
        jax.block_until_ready(draw(key))
        seconds.append(time.monotonic() - started)
    return 4 * DRAWN / min(seconds)
