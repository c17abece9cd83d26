"""Separable CMA-ES against an independent implementation, with that one's constants."""

import math

import cmaes
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.strategies.cma_es import Constants


def constants_of_the_oracle(population_size, n):
    mu = population_size // 2
    raw = np.log(mu + 1) - np.log(np.arange(1, mu + 1))
    weights = np.concatenate([raw / raw.sum(), np.zeros(population_size - mu)])
    mu_eff = float(1 / (weights**2).sum())
    c_sigma = (mu_eff + 2) / (n + mu_eff + 3)
    full = min(1, (2 * mu_eff - 1) / ((n + 2) ** 2 + mu_eff))
    return Constants(
        weights=weights,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma,
        c_c=4 / (n + 4),
        c_1=2 / ((n + 1.3) ** 2 + mu_eff),
        c_mu=(n + 2) / 3 * (2 / mu_eff / (n + math.sqrt(2)) ** 2 + (1 - 1 / mu_eff) * full),
        chi_n=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2)),
        eigen_gap=1,
    )


@pytest.mark.parametrize("n", [2, 8, 20])
def test_agrees_with_the_oracle_over_60_generations(n, float64):
    """Same solutions, same fitness: mean, σ, the diagonal and both paths agree to 1e-10.

    The search starts far away with a small σ, so that h_σ stalls p_c.
    """
    mean = 30 * np.random.default_rng(n).normal(size=n)
    scales = 10.0 ** (6 * np.arange(n) / (n - 1))
    population_size = 4 + int(3 * np.log(n))
    strategy = jaxes.sep_cma_es(population_size, sigma=0.05, constants=constants_of_the_oracle)
    oracle = cmaes.SepCMA(mean.copy(), 0.05, population_size=population_size)
    state = strategy.init(jnp.asarray(mean))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    stalled = 0
    for generation in range(60):
        key, path = jax.random.key(generation), oracle._pc.copy()
        solutions = np.asarray(ask(key, state))
        values = (solutions**2 * scales).sum(axis=1)
        state = tell(key, state, jnp.asarray(-values))
        oracle.tell(list(zip(solutions, values, strict=True)))
        stalled += np.allclose(oracle._pc, (1 - oracle._cc) * path)
        for name in ("mean", "sigma", "C", "p_sigma", "pc"):
            ours = getattr(state, "p_c" if name == "pc" else name)
            theirs = getattr(oracle, f"_{name}")
            scale = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * scale, err_msg=name)
    assert stalled > 0


def test_is_cma_es_on_one_parameter(float64):
    """A matrix of one number is its diagonal; both have the same constants there."""
    states, fitness = [], lambda solutions: -((solutions[:, 0] - 3) ** 2)
    for factory in (jaxes.cma_es, jaxes.sep_cma_es):
        strategy = factory(6, sigma=0.3)
        state = strategy.init(jnp.ones(1))
        ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
        for generation in range(30):
            key = jax.random.key(generation)
            state = tell(key, state, fitness(ask(key, state)))
        states.append(state)
    np.testing.assert_allclose(states[0].mean, states[1].mean, rtol=1e-12)
    np.testing.assert_allclose(states[0].C[0], states[1].C, rtol=1e-12)


def test_learns_the_scales_of_an_ellipsoid(float64):
    """Condition 1e6, separable: C becomes the inverse of the Hessian."""
    problem, strategy = jaxes.problems.functions.ellipsoid(8), jaxes.sep_cma_es(12, sigma=1.0)
    step = jaxes.make_update_step(strategy, problem)
    start = jaxes.init(jax.random.key(0), strategy, problem)
    state, metrics = jax.jit(lambda key: jaxes.run(step, key, start, 160))(jax.random.key(1))
    assert -metrics["fitness/max"][-1] < 1e-6
    relative = state.strategy.C * 10.0 ** (6 * np.arange(8) / 7)
    assert relative.max() / relative.min() < 30
