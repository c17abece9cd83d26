"""Keeps a computation in one piece: XLA on CPU would repeat it for each use of its results.

The fusion of XLA's CPU backend copies what a kernel reads into that kernel, as long as it is made
of cheap operations, also where several kernels read it: the choice of a move would be computed a
dozen times over. Conditionals are not fused into.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")


def apart(running: Array, fn: Callable[..., T], *arguments: object) -> T:
    """`fn(*arguments)`, computed once. `running` is true, bool [], which XLA must not know."""
    if jax.default_backend() != "cpu":  # where a conditional waits for the host
        return fn(*arguments)
    shapes = jax.eval_shape(fn, *arguments)
    return jax.lax.cond(
        running,
        fn,
        lambda *_: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes),
        *arguments,
    )
