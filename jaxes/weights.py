"""Fitness `[N]` to weights `[N]`: the only way in which fitness reaches a search distribution.

One contract: a greater fitness never weighs less, equal fitness weighs the same, NaN counts as the
worst, all weights are finite, and a permutation of the members permutes the weights. What a
function's weights sum to is declared with `sums_to`: a strategy that averages members needs one,
and calls `weights(fitness, elite_fraction)` with its traced hyperparameter; one that compares them
needs zero, and calls `weights(fitness)`. Functions compose: `compose(centered_rank, z_score)`.
"""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

COMPARE_ALL = 256  # members; up to here comparing all pairs was measured faster than sorting

Weights = Callable[..., Array]  # (fitness [N], elite fraction if they sum to one) -> weights [N]
WeightsName = Literal["elite", "log_rank", "centered_rank", "utilities", "z_score", "raw"]


def sums_to(total: int) -> Callable[[Weights], Weights]:
    """Declares that the weights of the decorated function sum to `total`, one or zero."""

    def declare(weights: Weights) -> Weights:
        weights.total = total  # type: ignore[attr-defined]
        return weights

    return declare


def total(weights: Weights) -> int | None:
    """What the weights of a function sum to; None where that is not declared."""
    return getattr(weights, "total", None)


def compose(outer: Weights, inner: Weights) -> Weights:
    """`fitness -> outer(inner(fitness))`, which sums to what `outer` does."""

    def composed(fitness: Array, *fraction: ArrayLike) -> Array:
        return outer(inner(fitness), *fraction)

    outer_total = total(outer)
    return composed if outer_total is None else sums_to(outer_total)(composed)


def by_rank(fitness: Array, table: Array) -> Array:
    """Gives the member of rank r the weight `table[r]`, best first; ties share their weights' mean.

    Invariant under any strictly increasing transformation of fitness.

    Args:
      fitness: `[N]`; NaN ranks with -inf.
      table: `[N]`, the weight of each rank.
    """
    cost = -jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    if cost.size <= COMPARE_ALL:
        first = jnp.sum(cost[None] < cost[:, None], axis=1, dtype=jnp.int32)
        last = jnp.sum(cost[None] <= cost[:, None], axis=1, dtype=jnp.int32)
    else:
        in_order = jnp.sort(cost)
        first = jnp.searchsorted(in_order, cost, side="left")  # members strictly better
        last = jnp.searchsorted(in_order, cost, side="right")  # ... and those as good as this one
    cumulative = jnp.concatenate([jnp.zeros(1, table.dtype), jnp.cumsum(table)])
    shared = (cumulative[last] - cumulative[first]) / (last - first).astype(table.dtype)
    return jnp.where(last - first == 1, table[first], shared)  # exact where nothing is shared


@sums_to(1)
def elite(fitness: Array, fraction: ArrayLike = 0.5) -> Array:
    """`1/k` for the best `k = fraction · N` members and 0 for the rest.

    Where `k` is not whole, the last elite counts in part; it is at least 1 and at most N.
    """
    k = jnp.clip(jnp.asarray(fraction) * fitness.size, 1, fitness.size)
    return by_rank(fitness, jnp.clip(k - jnp.arange(fitness.size, dtype=k.dtype), 0, 1) / k)


@sums_to(1)
def log_rank(fitness: Array, fraction: ArrayLike = 0.5) -> Array:
    """CMA-ES's positive weights: `max(0, ln(k + 1/2) - ln rank)`, `k = fraction · N`, normalized.

    Reference: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772, (49) and (53).
    """
    k = jnp.clip(jnp.asarray(fraction) * fitness.size, 1, fitness.size)
    table = jnp.maximum(0, jnp.log(k + 0.5) - jnp.log(_ranks(fitness)))
    return by_rank(fitness, table / jnp.sum(table))


@sums_to(0)
def centered_rank(fitness: Array) -> Array:
    """Ranks scaled to `[-0.5, 0.5]`, worst to best (Salimans et al. 2017)."""
    edge = 0.5 if fitness.size > 1 else 0
    return by_rank(fitness, jnp.linspace(edge, -edge, fitness.size, dtype=_ranks(fitness).dtype))


@sums_to(0)
def utilities(fitness: Array) -> Array:
    """NES utilities: max(0, ln(N/2 + 1) - ln rank), normalized, minus 1/N.

    Reference: Wierstra et al., Natural evolution strategies, JMLR 15 (2014), section 3.1.
    """
    table = jnp.maximum(0, jnp.log(fitness.size / 2 + 1) - jnp.log(_ranks(fitness)))
    return by_rank(fitness, table / jnp.sum(table) - 1 / fitness.size)


@sums_to(0)
def z_score(fitness: Array) -> Array:
    """`(F - mean)/(standard deviation)`; NaN and infinities count as the finite extremes."""
    unit = to_unit_interval(bounded(fitness))
    in_order = jnp.sort(unit)  # sums in an order that a permutation of the members leaves alone
    std = jnp.std(in_order)
    return (unit - jnp.mean(in_order)) / jnp.where(std > 0, std, 1)


def raw(fitness: Array) -> Array:
    """The fitness itself; NaN and infinities count as the finite extremes.

    Magnitudes are bounded by the square root of the dtype's maximum, so that sums stay finite.
    """
    values = bounded(fitness).astype(_ranks(fitness).dtype)
    bound = float(jnp.finfo(values.dtype).max) ** 0.5
    return jnp.clip(values, -bound, bound)


def like_utilities(weights: Weights, fitness: Array) -> Array:
    """Weights that sum to zero, scaled so that those of N different ranks weigh in all as much as
    the NES utilities do, `Σ|w_i| = Σ|u_i|`: learning rates then mean the same with any of them."""
    ranks = jnp.arange(fitness.size, dtype=fitness.dtype)
    theirs = jnp.sum(jnp.abs(weights(ranks)))
    known = jnp.isfinite(theirs) & (theirs > 0)  # or they say nothing of ranks: taken as they are
    scale = jnp.sum(jnp.abs(utilities(ranks))) / jnp.where(known, theirs, 1)
    return jnp.where(known, scale, 1) * weights(fitness)


def is_informative(fitness: Array) -> Array:
    """False where none is known to be better than another: all that are not NaN are equal."""
    known = ~jnp.isnan(fitness)
    best = jnp.max(fitness, where=known, initial=-jnp.inf)
    worst = jnp.min(fitness, where=known, initial=jnp.inf)
    return best > worst


def _ranks(fitness: Array) -> Array:
    return jnp.arange(1, fitness.size + 1, dtype=jnp.result_type(fitness, jnp.float32))


def bounded(fitness: Array) -> Array:
    """Infinities moved to the finite extremes, NaN to the least; zeros where nothing is finite."""
    finite = jnp.isfinite(fitness)
    low = jnp.min(fitness, where=finite, initial=jnp.inf)
    high = jnp.max(fitness, where=finite, initial=-jnp.inf)
    values = jnp.clip(jnp.where(jnp.isnan(fitness), -jnp.inf, fitness), low, high)
    return jnp.where(jnp.any(finite), values, jnp.zeros_like(fitness))


def to_unit_interval(values: Array, where: Array | bool = True) -> Array:
    """`(F - min F)/(max F - min F)` of finite values, over those `where` it is so; 0 elsewhere."""
    # The difference of sixteenths is finite, and so great that XLA, which divides by multiplying,
    # never takes a subnormal reciprocal for zero.
    values = values / 16
    low = jnp.min(values, where=where, initial=jnp.inf)
    high = jnp.max(values, where=where, initial=-jnp.inf)
    return jnp.where(where, (values - low) / jnp.where(high > low, high - low, 1), 0)


WEIGHTS: dict[str, Weights] = {
    "elite": elite,
    "log_rank": log_rank,
    "centered_rank": centered_rank,
    "utilities": utilities,
    "z_score": z_score,
    "raw": raw,
}
