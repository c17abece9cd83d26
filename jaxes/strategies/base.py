"""What all strategies share: the binding of a module's functions into a `Strategy`."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import weights
from jaxes.checks import check, check_count, check_name
from jaxes.core import HParams, State, Strategy


def bind(
    init: Callable[..., State],
    ask: Callable[..., Array],
    tell: Callable[..., State],
    hparams: HParams,
    population_size: int,
    **static: Any,
) -> Strategy:
    """A `Strategy` from an algorithm's three functions, each of which takes the `static` arguments.

    Adds what holds for every strategy: `ask` of all members by default, hyperparameters in the
    dtype of the mean, shapes checked at trace time, and a `tell` that leaves the state as it was
    where fitness says nothing (all equal, or all NaN).

    Args:
      init: `(mean [D], hparams) -> state`.
      ask: `(key, state, members [M]) -> solutions [M, D]`.
      tell: `(key, state, fitness [N]) -> state`.
      hparams: the defaults, a NamedTuple of numbers.
      population_size: N.
      **static: keyword arguments of the three functions that are no arrays.
    """

    def bound_init(mean: Array, hparams: HParams = hparams) -> State:
        mean = jnp.asarray(mean)
        if mean.ndim != 1 or not jnp.issubdtype(mean.dtype, jnp.floating):
            raise ValueError(f"mean must be a float vector [D], got {mean.dtype}{list(mean.shape)}")
        strong = partial(jnp.asarray, dtype=mean.dtype)  # a weak type would compile twice
        state = init(strong(mean), jax.tree.map(strong, hparams), **static)
        return jax.tree.map(jnp.copy, state)  # no two leaves share a buffer: they can be donated

    def bound_ask(key: Array, state: State, members: Array | None = None) -> Array:
        if members is None:
            members = jnp.arange(population_size, dtype=jnp.int32)
        return ask(key, state, members, **static)

    def bound_tell(key: Array, state: State, fitness: Array) -> State:
        if fitness.shape != (population_size,):
            raise ValueError(
                f"fitness must have the shape [{population_size}] of the population, "
                f"got {list(fitness.shape)}"
            )
        moved = tell(key, state, fitness.astype(state.mean.dtype), **static)
        informative = weights.is_informative(fitness)
        return jax.tree.map(partial(jnp.where, informative), moved, state)

    return Strategy(bound_init, bound_ask, bound_tell, hparams, population_size)


def keep_in_range(step_size: Array) -> Array:
    """Step sizes bounded so that their squares neither vanish nor overflow in their dtype."""
    tiny = math.sqrt(jnp.finfo(step_size.dtype).tiny)
    return jnp.clip(step_size, tiny, 1 / tiny)


def check_population_size(
    population_size: Any, least: int, *, even: bool = False, why: str = ""
) -> None:
    """Raises a ValueError unless `population_size` is a whole number that the strategy can use."""
    check_count("population_size", population_size, least, why=why)
    check("population_size", population_size, not (even and population_size % 2), "even for pairs")


def named(name: str, names: Any, module: Any, field: str) -> Any:
    """`module.name`, where the Literal type `names` allows it."""
    check_name(field, name, get_args(names))
    return getattr(module, name)
