"""Statistics of observations, against those of all observations at once."""

import jax
import jax.numpy as jnp
import numpy as np
from adapters import Episode, Moments, merge

from jaxes import parallel
from jaxes.problems.observations import ObservationStatistics, std


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


def test_huge_observations_of_one_device_are_lost_to_all():
    """Finite, but not their squares, in an episode that went on: its length is not counted."""

    def shares(x):  # of device 0 the first half, of device 1 the second
        row = jnp.arange(x.shape[0]) // 2 == jax.lax.axis_index(parallel.MEMBER)
        return jnp.where(row[:, None], x, 0)

    deviations = jnp.array([[1.0, 2.0], [3.0, -1.0], [1e25, 1.0], [2.0, 2.0]])
    lengths = jnp.array([1, 1, 5, 1])
    statistics = ObservationStatistics(jnp.zeros(()), jnp.zeros(2), jnp.zeros(2))

    def merged(_):
        moments = Moments(shares(deviations), shares(deviations**2))
        done = Episode(jnp.zeros(4), lengths, jnp.zeros(4, bool), moments)
        return merge(statistics, done)

    both = jax.vmap(merged, axis_name=parallel.MEMBER)(jnp.arange(2))
    for leaf in both:
        np.testing.assert_array_equal(leaf[0], leaf[1])
    sound = deviations[jnp.array([0, 1, 3])]
    np.testing.assert_array_equal(both.count[0], 3)
    np.testing.assert_allclose(both.mean[0], sound.mean(axis=0), rtol=1e-6)
