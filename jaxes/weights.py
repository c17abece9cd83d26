"""Fitness `[N]` to weights `[N]`: the only way in which fitness reaches a search distribution.

One contract: a greater fitness never weighs less, equal fitness weighs the same, NaN counts as the
worst, and a permutation of the members permutes the weights.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def by_rank(fitness: Array, table: Array) -> Array:
    """Gives the member of rank r the weight `table[r]`, best first; ties share their weights' mean.

    Invariant under any strictly increasing transformation of fitness.

    Args:
      fitness: `[N]`; NaN ranks with -inf.
      table: `[N]`, the weight of each rank.
    """
    cost = -jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    in_order = jnp.sort(cost)
    first = jnp.searchsorted(in_order, cost, side="left")  # members strictly better
    last = jnp.searchsorted(in_order, cost, side="right")  # ... and those as good as this one
    cumulative = jnp.concatenate([jnp.zeros(1, table.dtype), jnp.cumsum(table)])
    shared = (cumulative[last] - cumulative[first]) / (last - first)
    return jnp.where(last - first == 1, table[first], shared)  # exact where nothing is shared


def elite(fitness: Array, fraction: ArrayLike) -> Array:
    """`1/k` for the best `k = fraction · N` members and 0 for the rest; they sum to one.

    `fraction` may be traced. Where `k` is not whole, the last elite counts in part.
    """
    k = jnp.asarray(fraction) * fitness.size
    return by_rank(fitness, jnp.clip(k - jnp.arange(fitness.size), 0, 1) / k)


def centered_rank(fitness: Array) -> Array:
    """Ranks scaled to `[-0.5, 0.5]`, worst to best; they sum to zero (Salimans et al. 2017)."""
    return by_rank(
        fitness, jnp.linspace(0.5, -0.5, fitness.size, dtype=jnp.result_type(fitness, jnp.float32))
    )


def utilities(fitness: Array) -> Array:
    """NES utilities: max(0, ln(N/2 + 1) - ln rank), normalized, minus 1/N; they sum to zero.

    Reference: Wierstra et al., Natural evolution strategies, JMLR 15 (2014), section 3.1.
    """
    rank = jnp.arange(1, fitness.size + 1, dtype=jnp.result_type(fitness, jnp.float32))
    table = jnp.maximum(0, jnp.log(fitness.size / 2 + 1) - jnp.log(rank))
    return by_rank(fitness, table / jnp.sum(table) - 1 / fitness.size)


def raw(fitness: Array) -> Array:
    """The fitness itself; NaN and infinities are moved to the finite extremes."""
    finite = jnp.isfinite(fitness)
    low = jnp.min(fitness, where=finite, initial=jnp.inf)
    high = jnp.max(fitness, where=finite, initial=-jnp.inf)
    bounded = jnp.clip(jnp.where(jnp.isnan(fitness), -jnp.inf, fitness), low, high)
    return jnp.where(jnp.any(finite), bounded, jnp.zeros_like(fitness))


def is_informative(fitness: Array) -> Array:
    """False where no member is known to be better than another: all equal, or all NaN."""
    known = ~jnp.isnan(fitness)
    best = jnp.max(fitness, where=known, initial=-jnp.inf)
    worst = jnp.min(fitness, where=known, initial=jnp.inf)
    return best > worst
