"""Statistics over all observations of a run, with which the policy's inputs are normalized."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.rollouts.episodes import Episode, Moments

MIN_VARIANCE = 1e-4  # of an observation that hardly varies, so that it is not blown up


class ObservationStatistics(NamedTuple):
    """Of all observations so far: their count [], mean [O] and sum of squares about it [O]."""

    count: Array  # type: ignore[assignment]  # tuple.count is not missed
    mean: Array
    sum_squares: Array


class Normalizer(NamedTuple):
    """What a job's observations are normalized with: `mean` [O], `std` [O] and the bound `clip` []
    on what comes out, in standard deviations."""

    mean: Array
    std: Array
    clip: Array | float

    def __call__(self, observation: Array) -> Array:
        observation = (observation - self.mean) / self.std
        return jnp.clip(observation, -self.clip, self.clip)


def no_observations(size: int) -> ObservationStatistics:
    """Before the first one, of observations [size]."""
    return ObservationStatistics(
        count=jnp.zeros((), jnp.float32),
        mean=jnp.zeros(size, jnp.float32),
        sum_squares=jnp.zeros(size, jnp.float32),
    )


def std(statistics: ObservationStatistics) -> Array:
    """The observations' standard deviation, to normalize them with; 1 while there are none."""
    count = statistics.count[..., None]
    variance = statistics.sum_squares / jnp.maximum(count, 1)
    return jnp.sqrt(jnp.where(count > 0, jnp.maximum(variance, MIN_VARIANCE), 1))


def merge(old: ObservationStatistics, episodes: Episode, moments: Moments) -> ObservationStatistics:
    """Adds the observations of episodes [J], whose moments are about the old mean.

    Diverged episodes are left out as a whole: before it breaks, a simulation passes through huge
    numbers. Sums run in the order of the jobs, so that they do not depend on lanes or devices.
    Equations: Chan, Golub & LeVeque, Algorithms for computing the sample variance (1983).
    """
    sound = jnp.all(jnp.isfinite(moments.second), axis=1) & ~episodes.diverged
    total = old.count + jnp.sum(episodes.length, where=sound)
    first, second = (sum_in_order(jnp.where(sound[:, None], x, 0)) for x in moments)
    # About the old mean, old deviations sum to zero: only the new ones shift it.
    shift = first / jnp.maximum(total, 1)
    return ObservationStatistics(
        count=total,
        mean=old.mean + shift,
        sum_squares=old.sum_squares + second - total * shift**2,
    )


def sum_in_order(x: Array) -> Array:
    """The sum over the first axis, pairwise: the same bits however it is compiled."""
    while x.shape[0] > 1:
        half = (x.shape[0] + 1) // 2
        rest = jnp.pad(x[half:], [(0, 2 * half - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
        x = x[:half] + rest
    return x[0]
