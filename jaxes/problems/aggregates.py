from collections.abc import Callable

import jax.numpy as jnp

Aggregate = Callable


def aggregate_of(name):
    return lambda values, weights: jnp.sum(values * weights, axis=1)
