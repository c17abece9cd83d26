"""Statistics over all observations of a run, with which the policy's inputs are normalized."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.rollouts.episodes import Episode

MIN_VARIANCE = 1e-4  # of an observation that hardly varies, so that it is not blown up


class ObservationStatistics(NamedTuple):
    """Of all observations so far: their count [], mean [O] and sum of squares about it [O]."""

    count: Array  # type: ignore[assignment]  # tuple.count is not missed
    mean: Array
    sum_squares: Array


class Normalizer(NamedTuple):
    """What a job's observations are normalized with: `mean` [O], `std` [O] and the bound `clip` []
    on what comes out, in standard deviations. What follows the first O numbers stays as it is."""

    mean: Array
    std: Array
    clip: Array | float

    def __call__(self, observation: Array) -> Array:
        size = self.mean.shape[-1]
        told = observation[size:]
        observation = (observation[:size] - self.mean) / self.std
        observation = jnp.clip(observation, -self.clip, self.clip)
        return jnp.concatenate([observation, told]) if told.size else observation


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


def merge(old: ObservationStatistics, episodes: Episode, moments: Array) -> ObservationStatistics:
    """Adds the observations of episodes [J], whose moments [J, 2, O] are about the old mean.

    The moments are those of this device's episodes, zeros for those of others. Their sums are exact
    (`jaxes.parallel.exact_sum`), so that they do not depend on lanes or devices. Diverged episodes
    are left out as a whole: before it breaks, a simulation passes through huge numbers.
    Equations: Chan, Golub & LeVeque, Algorithms for computing the sample variance (1983).
    """
    finite = jnp.all(jnp.isfinite(moments), axis=(1, 2))
    # Huge observations that did not end their episode: known to its device alone.
    lost = parallel.all_sum(jnp.sum(episodes.length, where=~finite & ~episodes.diverged))
    added = jnp.sum(episodes.length, where=~episodes.diverged) - lost
    total = old.count + added.astype(old.count.dtype)
    sound = (finite & ~episodes.diverged)[:, None, None]
    first, second = parallel.exact_sum(jnp.where(sound, moments, 0))
    # About the old mean, old deviations sum to zero: only the new ones shift it.
    shift = first / jnp.maximum(total, 1)
    return ObservationStatistics(
        count=total,
        mean=old.mean + shift,
        sum_squares=old.sum_squares + second - total * shift**2,
    )
