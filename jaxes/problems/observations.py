"""Statistics over all observations of a run, with which the policy's inputs are normalized."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.rollout import Episode

MIN_VARIANCE = 1e-4  # of an observation that hardly varies, so that it is not blown up


class ObservationStatistics(NamedTuple):
    """Of all observations so far: their number [], mean [O] and sum of squared deviations [O]."""

    number: Array
    mean: Array
    squared_deviations: Array


def no_observations(size: int) -> ObservationStatistics:
    """Before the first one, of observations [size]."""
    return ObservationStatistics(
        number=jnp.zeros((), jnp.float32),
        mean=jnp.zeros(size, jnp.float32),
        squared_deviations=jnp.zeros(size, jnp.float32),
    )


def deviation(statistics: ObservationStatistics) -> Array:
    """The observations' standard deviation, to normalize them with; 1 while there are none."""
    number = statistics.number[..., None]
    variance = statistics.squared_deviations / jnp.maximum(number, 1)
    return jnp.sqrt(jnp.where(number > 0, jnp.maximum(variance, MIN_VARIANCE), 1))


def merge(old: ObservationStatistics, episodes: Episode) -> ObservationStatistics:
    """Adds the observations of episodes [J], whose moments are about the old mean.

    Diverged episodes are left out as a whole: before it breaks, a simulation passes through huge
    numbers. Sums run in the order of the jobs, so that they do not depend on lanes or devices.
    Equations: Chan, Golub & LeVeque, Algorithms for computing the sample variance (1983).
    """
    sound = jnp.all(jnp.isfinite(episodes.moments.second), axis=1) & ~episodes.diverged
    total = old.number + jnp.sum(episodes.length, where=sound)
    first, second = (sum_in_order(jnp.where(sound[:, None], x, 0)) for x in episodes.moments)
    # About the old mean, old deviations sum to zero: only the new ones shift it.
    shift = first / jnp.maximum(total, 1)
    return ObservationStatistics(
        number=total,
        mean=old.mean + shift,
        squared_deviations=old.squared_deviations + second - total * shift**2,
    )


def sum_in_order(x: Array) -> Array:
    """The sum over the first axis, pairwise: the same bits however it is compiled."""
    while x.shape[0] > 1:
        half = (x.shape[0] + 1) // 2
        rest = jnp.pad(x[half:], [(0, 2 * half - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
        x = x[:half] + rest
    return x[0]
