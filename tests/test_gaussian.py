"""Noise: what each scheme promises, and sums that hold a chunk of it at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes import gaussian

SCHEMES = gaussian.SCHEMES | {"antithetic blocks": gaussian.mirrored(gaussian.orthogonal)}


@pytest.fixture(params=sorted(SCHEMES))
def scheme(request):
    return SCHEMES[request.param]


def test_noise_is_standard_normal(scheme):
    noise = scheme(jax.random.key(0), jnp.arange(2**15), 3, jnp.float32)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.03)
    assert np.isfinite(noise).all()


def test_each_member_alone_is_standard_normal(scheme):
    """Over keys, and for a member in the middle: quasi-random points are random one by one."""
    keys = jax.random.split(jax.random.key(0), 4000)
    noise = jax.vmap(lambda key: scheme(key, jnp.array([5]), 4, jnp.float32)[0])(keys)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.08)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(4), atol=0.1)
    np.testing.assert_allclose((noise**4).mean(axis=0), 3, atol=0.6)  # as only a Gaussian has


def test_a_member_does_not_depend_on_its_company(scheme):
    key = jax.random.key(1)
    everyone = scheme(key, jnp.arange(10), 4, jnp.float32)
    np.testing.assert_array_equal(
        scheme(key, jnp.array([7, 3]), 4, jnp.float32), everyone[jnp.array([7, 3])]
    )
    np.testing.assert_array_equal(everyone, scheme(key, jnp.arange(10), 4, jnp.float32))
    assert not np.array_equal(everyone, scheme(jax.random.key(2), jnp.arange(10), 4, jnp.float32))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_follows(scheme, dtype):
    with jax.enable_x64(True):
        draw = functools.partial(scheme, dim=3, dtype=dtype)
        assert jax.eval_shape(draw, jax.random.key(0), jnp.arange(4)).dtype == dtype


def test_antithetic_pairs_are_mirror_images():
    noise = gaussian.antithetic(jax.random.key(0), jnp.arange(1000), 3, jnp.float32)
    np.testing.assert_array_equal(noise[0::2], -noise[1::2])
    assert len(np.unique(np.abs(noise[:, 0]))) == 500


def test_orthogonal_blocks_are_orthogonal():
    dim = 6
    noise = gaussian.orthogonal(jax.random.key(0), jnp.arange(3 * dim), dim, jnp.float32)
    for block in noise.reshape(3, dim, dim):
        gram = block @ block.T
        np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-5)
    lengths = np.linalg.norm(noise, axis=1)
    assert lengths.std() > 0.3  # as long as independent Gaussian vectors, not all of one length
    assert np.abs(noise[:dim] @ noise[dim : 2 * dim].T).max() > 0.5


@pytest.mark.parametrize("start", [0, 64, 192])
def test_sobol_points_are_stratified(start):
    """64 points in a row from a multiple of 64 on: one in each 64th of each coordinate."""
    noise = gaussian.sobol(jax.random.key(3), start + jnp.arange(64), 5, jnp.float32)
    cells = np.floor(64 * jax.scipy.stats.norm.cdf(noise)).astype(int)
    for coordinate in cells.T:
        assert sorted(coordinate) == list(range(64))


def test_sobol_refuses_more_dimensions_than_it_has():
    with pytest.raises(ValueError, match="at most 21201 dimensions"):
        gaussian.sobol(jax.random.key(0), jnp.arange(2), 30_000, jnp.float32)


@pytest.mark.parametrize("population_size", [1, 16, 21])
@pytest.mark.parametrize("scheme", [gaussian.independent, gaussian.antithetic])
def test_sums_run_over_every_member_once(population_size, scheme):
    sampler = gaussian.Sampler(scheme, population_size, chunk_size=8)
    key, mean, numbers = jax.random.key(0), jnp.zeros(3), jnp.arange(1.0, population_size + 1)
    count, moment, weighted = sampler.sum(
        lambda z, number: (jnp.sum(number), z.T @ z, number @ z), key, mean, numbers
    )
    noise = sampler(key, jnp.arange(population_size), mean)
    np.testing.assert_allclose(count, numbers.sum())
    np.testing.assert_allclose(moment, noise.T @ noise, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(weighted, numbers @ noise, rtol=1e-4, atol=1e-3)


def test_no_more_than_a_chunk_is_held_at_once():
    held = []

    def contribution(z):
        held.append(z.shape)
        return jnp.zeros(())

    sampler = gaussian.Sampler(gaussian.independent, 1000, chunk_size=48)
    sampler.sum(contribution, jax.random.key(0), jnp.zeros(7))
    assert max(held) == (48, 7)
