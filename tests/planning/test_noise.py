"""Colored noise as a linear map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import line

import jaxes
from jaxes.planning import planner
from jaxes.planning.noise import Coloring
from jaxes.planning.objectives import Objective


@pytest.mark.parametrize("horizon", [1, 2, 7, 30])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 4.0])
def test_each_action_has_variance_one_and_the_map_has_an_inverse(horizon, beta):
    coloring = Coloring("colored", beta, horizon)
    L = coloring.matrix
    np.testing.assert_allclose(np.diag(L @ L.T), 1, rtol=1e-12)
    plan = np.random.default_rng(0).normal(size=(horizon, 3)).astype(np.float32)
    back = coloring.plan(coloring.solution(jnp.asarray(plan)), 3)
    np.testing.assert_allclose(back, plan, atol=2e-4)
    if beta == 0:
        np.testing.assert_array_equal(coloring.plan(jnp.asarray(plan).reshape(-1), 3), plan)


def test_power_falls_as_the_frequency_to_minus_beta():
    horizon, beta = 64, 2.0
    L = Coloring("colored", beta, horizon).matrix
    z = np.random.default_rng(0).normal(size=(horizon, 20_000))
    power = np.mean(np.abs(np.fft.rfft(L @ z, axis=0)) ** 2, axis=1)[1:-1]
    frequency = np.fft.rfftfreq(horizon)[1:-1]
    slope, _ = np.polyfit(np.log(frequency), np.log(power), 1)
    assert abs(slope + beta) < 0.02


def test_white_noise_is_the_identity_whatever_beta_is():
    np.testing.assert_array_equal(Coloring("white", 3.0, 9).matrix, np.eye(9))


@pytest.mark.parametrize("make", [jaxes.cem, jaxes.cma_es, jaxes.snes])
def test_fitness_that_is_noise_moves_no_covariance_of_a_plan(make):
    """What the map could do wrong: stretch some directions at the cost of others."""
    horizon, iterations, repeats = 8, 3, 400
    strategy = make(32, sigma=0.5)

    def update(total, moment):  # a number that says nothing of the plan: the noise of its bits
        bits = jax.lax.bitcast_convert_type(moment.observation[0], jnp.int32)
        return total + jnp.sin(bits.astype(jnp.float32) * 12.9898) * 43758.5453 % 1.0

    noise = Objective(np.float32(0), update, lambda total, last: total)
    plans = planner(strategy, horizon=horizon, iterations=iterations, objective=noise)
    agent = plans.with_model(line())
    flat = Objective(np.float32(0), lambda total, moment: total, lambda total, last: total)
    still = plans._replace(objective=flat).with_model(line())

    def means(agent):
        def plan(key):
            _, after, _ = agent.plan(key, (), jnp.zeros(()), agent.init())
            return after.mean[:, 0]

        return jax.jit(jax.vmap(plan))(jax.random.split(jax.random.key(0), repeats))

    np.testing.assert_array_equal(means(still), 0)  # equal fitness moves nothing at all
    # Means move by Σ^½ times noise: their covariance is a multiple of L Lᵀ.
    L = Coloring("colored", 2.0, horizon).matrix
    shift = np.eye(horizon, k=1)
    shift[-1, -1] = 1
    expected = shift @ L @ L.T @ shift.T
    found = np.cov(np.asarray(means(agent)).T)
    scale = np.trace(found) / np.trace(expected)
    assert np.linalg.norm(found / scale - expected) < 0.25 * np.linalg.norm(expected)
