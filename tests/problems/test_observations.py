"""Statistics of observations, against those of all observations at once."""

import jax
import jax.numpy as jnp
import numpy as np
from adapters import Episode, merge

from jaxes.problems.observations import ObservationStatistics, std
from jaxes.rollouts.episodes import Moments


def one_step_episodes(deviations, diverged=False):
    number = len(deviations)
    moments = Moments(jnp.asarray(deviations), jnp.asarray(deviations**2))
    lengths = jnp.ones(number, jnp.int32)
    return Episode(jnp.zeros(number), lengths, jnp.full(number, diverged), moments)


def test_an_exploding_simulation_is_kept_out_of_the_statistics():
    statistics = ObservationStatistics(jnp.zeros(()), jnp.zeros(2), jnp.zeros(2))
    healthy = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    huge = np.array([[1e25, 1.0]], np.float32)  # finite, but not its square
    expected = merge(statistics, one_step_episodes(healthy))
    with np.errstate(over="ignore"):
        exploded = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves),
            one_step_episodes(healthy),
            one_step_episodes(huge),
            one_step_episodes(100 * healthy, diverged=True),
        )
    for ours, theirs in zip(merge(statistics, exploded), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_observation_statistics_are_those_of_all_observations():
    rng = np.random.default_rng(0)
    generations = [rng.normal(5, 3, size=(n, 2)).astype(np.float32) for n in (30, 7, 400)]
    statistics = ObservationStatistics(jnp.zeros(()), jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_array_equal(std(statistics), [1, 1])
    for observations in generations:
        deviations = observations - np.asarray(statistics.mean)
        statistics = merge(statistics, one_step_episodes(deviations))
    everything = np.concatenate(generations)
    np.testing.assert_allclose(statistics.mean, everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        statistics.sum_squares / statistics.count, everything.var(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(std(statistics), everything.std(axis=0), rtol=1e-4)
