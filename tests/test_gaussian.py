import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes import gaussian


@pytest.mark.parametrize("antithetic", [False, True])
def test_noise_is_standard_normal_and_independent(antithetic):
    noise = gaussian.noise(
        jax.random.key(0), jnp.arange(40_000), 3, jnp.float32, antithetic=antithetic
    )
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.03)
    if antithetic:
        np.testing.assert_array_equal(noise[0::2], -noise[1::2])
    else:
        assert abs(np.corrcoef(noise[0::2, 0], noise[1::2, 0])[0, 1]) < 0.03


def test_a_member_does_not_depend_on_its_company():
    key = jax.random.key(1)
    everyone = gaussian.noise(key, jnp.arange(10), 4, jnp.float32)
    np.testing.assert_array_equal(
        gaussian.noise(key, jnp.array([7, 3]), 4, jnp.float32), everyone[jnp.array([7, 3])]
    )


@pytest.mark.parametrize("population_size", [1, 7, 8, 16, 21, 24])
def test_sums_run_over_every_member_once(population_size):
    def contribution(members):
        return jnp.sum(members + 1), jnp.sum((members + 1) ** 2)

    first, second = gaussian.sum_over_members(contribution, population_size, chunk_size=8)
    numbers = np.arange(1, population_size + 1)
    assert (first, second) == (numbers.sum(), (numbers**2).sum())


def test_no_more_than_a_chunk_is_held_at_once():
    held = []

    def contribution(members):
        held.append(members.size)
        return jnp.zeros(())

    gaussian.sum_over_members(contribution, 1000, chunk_size=64)
    assert max(held) == 64
