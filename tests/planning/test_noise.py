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
from jaxes.search import Search, advance, begin


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


def noise_of(x):
    """A number in [0, 1) that says nothing of x: it is made of its last bits."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return jnp.sin(bits.astype(jnp.float32) * 12.9898) * 43758.5453 % 1.0


def test_noise_moves_the_mean_of_a_plan_as_the_map_says_and_equal_fitness_not_at_all():
    horizon, repeats = 8, 400
    noise = Objective(
        np.float32(0), lambda _, moment: noise_of(moment.observation[0]), lambda total, last: total
    )
    flat = Objective(np.float32(0), lambda total, moment: total, lambda total, last: total)

    def means(objective):
        plans = planner(jaxes.cem(32, sigma=0.5), horizon=horizon, objective=objective)
        agent = plans.with_model(line())

        def plan(key):
            _, after, _ = agent.plan(key, (), jnp.zeros(()), agent.init())
            return after.mean[:, 0]

        return np.asarray(jax.jit(jax.vmap(plan))(jax.random.split(jax.random.key(0), repeats)))

    np.testing.assert_array_equal(means(flat), 0)
    # Means move by Σ^½ times noise: their covariance is a multiple of L Lᵀ, shifted by a step.
    L = Coloring("colored", 2.0, horizon).matrix
    shift = np.eye(horizon, k=1)
    shift[-1, -1] = 1
    expected, found = shift @ L @ L.T @ shift.T, np.cov(means(noise).T)
    scale = np.trace(found) / np.trace(expected)
    assert np.linalg.norm(found / scale - expected) < 0.25 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("strategy", "spread", "expected"),
    [
        # An estimate from k elites about their own mean is smaller by 1 - 1/k.
        (jaxes.cem(40, elite_fraction=0.25), lambda state: state.std**2, 0.9**10),
        (jaxes.snes(40, sigma=1.0), lambda state: state.std**2, 1.0),
        # Of its step size the logarithm stays on average: the variance has a mean above one.
        (jaxes.cma_es(40, sigma=1.0), lambda state: state.sigma * jnp.diag(state.C) ** 0.5, 1.0),
    ],
    ids=["cem", "snes", "cma_es"],
)
def test_no_covariance_drifts_where_fitness_is_noise(strategy, spread, expected):
    """Ten generations, which is more than a plan has."""
    search = Search(strategy, lambda x: noise_of(x[0]))

    def run(key):
        keys = jax.random.split(key, 10)
        start = begin(search, jnp.zeros(6))
        return jax.lax.scan(lambda state, key: advance(search, key, state), start, keys)[0]

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 4000)).strategy
    each = jnp.mean(jax.vmap(spread)(found), axis=0)
    np.testing.assert_allclose(each, expected, rtol=0.35)
    np.testing.assert_allclose(jnp.mean(each), expected, rtol=0.15)
    np.testing.assert_allclose(jnp.mean(found.mean, axis=0), 0, atol=0.2)
