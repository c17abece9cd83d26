"""What a host function returns is looked at."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxes.checks import check


def check_rows(fitness_fn: Callable[[Any], Any], solutions: Any) -> None:
    """Raises a ValueError for a host function that judges columns, where the shape of what it
    returns would not tell: as many members as a solution has numbers. It is called with a few."""
    leaves = jax.tree.leaves(solutions)
    lengths = {length for leaf in leaves for length in leaf.shape[1:]}
    population_size = leaves[0].shape[0]
    if population_size in lengths:
        count = next(count for count in range(2, 99) if count not in lengths)
        few = jax.tree.map(lambda leaf: leaf[np.arange(count) % population_size], solutions)
        got = np.shape(fitness_fn(few))
        allowed = f"a function to fitness of shape [{count}] for {count} solutions, one a row"
        check("fitness_fn", list(got), got == (count,), allowed)


def as_host(fitness: Any) -> np.ndarray:
    """What a host function returned, as NumPy has it.

    Raises:
      ValueError: it depends on a traced value.
    """
    if isinstance(fitness, jax.core.Tracer):
        raise ValueError(
            "fitness_fn must capture known values: a search cannot be a part of a jitted function; "
            "got a traced one"
        )
    return np.asarray(fitness)


def check_host_fitness(fitness: np.ndarray, population_size: int, dtype: np.dtype) -> None:
    """Raises a ValueError unless these are real numbers, one a member, that `dtype` can hold."""
    real = fitness.shape == (population_size,) and fitness.dtype.kind in "fiub"
    got = f"{fitness.dtype}{list(fitness.shape)}"
    check("fitness_fn", got, real, f"a function to real fitness of shape [{population_size}]")
    largest = float(np.finfo(dtype).max)
    huge = np.isfinite(fitness) & (np.abs(fitness.astype(float)) > largest)
    allowed = f"within ±{largest:.3g}, or the mean an array of float64"
    check("fitness_fn", fitness[huge][:1], not huge.any(), allowed)
