"""LM-MA-ES against Algorithm 1 of the paper, and on the functions that it was made for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.strategies import lm_ma_es


def test_is_algorithm_1(float64):
    """Written out with loops, as in the paper; the step size is controlled as in CMA-ES."""
    n, lam, sigma = 100, 12, 0.3
    m, mu = 4 + int(3 * np.log(n)), lam // 2
    strategy = jaxes.lm_ma_es(lam, sigma=sigma)
    y = np.linspace(-1, 2, n)
    state, M, p_sigma = strategy.init(jnp.asarray(y)), np.zeros((m, n)), np.zeros(n)
    weights = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    weights = weights / weights.sum()
    mu_w, c_s = 1 / (weights**2).sum(), 2 * lam / n
    d_s = 1 + c_s
    chi_n = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for t in range(25):
        key = jax.random.key(t)
        noise = jax.vmap(lambda i, key=key: noise_of(key, i, n))(jnp.arange(lam))
        z, d = np.asarray(noise), np.asarray(noise).copy()
        for i in range(lam):
            for j in range(min(t, m)):
                c_d = 1 / (1.5**j * n)
                d[i] = (1 - c_d) * d[i] + c_d * M[j] * (M[j] @ d[i])
        solutions = y + sigma * d
        np.testing.assert_allclose(ask(key, state), solutions, rtol=1e-9, atol=1e-9)
        values = (solutions**2 * np.arange(1, n + 1)).sum(axis=1)
        state = tell(key, state, jnp.asarray(-values))

        best = np.argsort(values)[:mu]
        z_w = weights @ z[best]
        y = y + sigma * weights @ d[best]
        p_sigma = (1 - c_s) * p_sigma + np.sqrt(mu_w * c_s * (2 - c_s)) * z_w
        for j in range(m):
            c_c = min(0.5, lam / (4**j * n))
            M[j] = (1 - c_c) * M[j] + np.sqrt(mu_w * c_c * (2 - c_c)) * z_w
        sigma = sigma * np.exp(c_s / d_s * (np.linalg.norm(p_sigma) / chi_n - 1))
        np.testing.assert_allclose(state.mean, y, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(state.M, M, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(state.sigma, sigma, rtol=1e-9)


def noise_of(key, member, n):
    return jaxes.gaussian.independent(key, member[None], n, jnp.float64)[0]


def generations_to(target, strategy, fn, n):
    """Generations until the cost of the mean is below the target, from x = 1."""

    def more(carry):
        i, state = carry
        return (i < 20_000) & (fn(state.mean) > target)

    def generation(carry):
        i, state = carry
        key = jax.random.fold_in(jax.random.key(0), i)
        fitness = -jax.vmap(fn)(strategy.ask(key, state))
        return i + 1, strategy.tell(key, state, fitness)

    start = (jnp.int32(0), strategy.init(jnp.ones(n)))
    return int(jax.jit(lambda start: jax.lax.while_loop(more, generation, start))(start)[0])


def test_learns_a_long_axis_that_no_diagonal_sees(float64):
    """A rotated cigar: one direction 1e6 times flatter than all others."""
    n = 40
    axis = np.random.default_rng(0).normal(size=n)
    axis = jnp.asarray(axis / np.linalg.norm(axis))

    def cigar(x):
        along = x @ axis
        return along**2 + 1e6 * (jnp.sum(x**2) - along**2)

    limited = generations_to(1e-6, jaxes.lm_ma_es(15, sigma=0.3), cigar, n)
    diagonal = generations_to(1e-6, jaxes.sep_cma_es(15, sigma=0.3), cigar, n)
    assert limited < 12_000
    assert limited < diagonal / 2


def test_memory_grows_with_the_logarithm_of_the_dimension():
    assert [lm_ma_es.num_directions(n) for n in (1, 10, 100, 1_000_000)] == [4, 10, 17, 45]


def test_a_population_larger_than_the_dimension_is_stable(float64):
    assert generations_to(1e-8, jaxes.lm_ma_es(256, sigma=1.0), lambda x: jnp.sum(x**2), 5) < 400


@pytest.mark.parametrize(
    ("population_size", "dim", "seed"), [(256, 2, 0), (64, 1, 1), (1024, 10, 2)]
)
def test_many_members_in_few_dimensions(population_size, dim, seed):
    result = jaxes.minimize(
        lambda x: jnp.sum((x - 1) ** 2),
        jnp.zeros(dim),
        jaxes.lm_ma_es,
        population_size=population_size,
        seed=seed,
        target=1e-6,
        budget=500 * population_size,
    )
    assert result.reason == "target"
