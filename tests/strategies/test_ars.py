"""ARS against Algorithm 2 in NumPy, and against the closed-form optimum of the paper's LQR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import jaxes

# Mania et al. (2018), section 4.3: a slightly unstable system.
A = np.array([[1.01, 0.01, 0.0], [0.01, 1.01, 0.01], [0.0, 0.01, 1.01]])
Q, R, HORIZON = 1e-3 * np.eye(3), np.eye(3), 300


@pytest.mark.parametrize("elite_fraction", [1.0, 0.5])
def test_is_algorithm_2(elite_fraction, float64):
    mean, nu, alpha, directions = np.array([0.3, -0.7, 2.0]), 0.2, 0.05, 12
    strategy = jaxes.ars(
        2 * directions, sigma=nu, learning_rate=alpha, elite_fraction=elite_fraction
    )
    key, state = jax.random.key(5), strategy.init(jnp.asarray(mean))
    solutions = np.asarray(strategy.ask(key, state))
    rewards = 1000 - ((solutions - 1) ** 2 * [1.0, 4.0, 9.0]).sum(axis=1)
    told = strategy.tell(key, state, jnp.asarray(rewards))

    delta = (solutions[0::2] - mean) / nu
    np.testing.assert_allclose(solutions[1::2], mean - nu * delta)
    plus, minus = rewards[0::2], rewards[1::2]
    b = int(elite_fraction * directions)
    top = np.argsort(-np.maximum(plus, minus))[:b]
    sigma_R = np.concatenate([plus[top], minus[top]]).std()
    step = alpha / (b * sigma_R) * (plus[top] - minus[top]) @ delta[top]
    np.testing.assert_allclose(told.mean, mean + step, rtol=1e-9)


def test_directions_that_are_not_used_cost_no_digits():
    """One simulation that diverges to -1e12 says nothing about the others."""
    strategy = jaxes.ars(16, elite_fraction=0.5)
    state, key = strategy.init(jnp.zeros(3)), jax.random.key(0)
    rewards = 100 + jax.random.normal(jax.random.key(1), (16,))
    worst = 2 * jnp.argmin(jnp.maximum(rewards[0::2], rewards[1::2]))
    tell = jax.jit(strategy.tell)
    steps = [
        tell(key, state, rewards.at[worst].set(outlier)).mean
        for outlier in (90.0, -1e6, -1e12, -jnp.inf, jnp.nan)
    ]
    for step in steps[1:]:
        np.testing.assert_array_equal(step, steps[0])


def average_cost(K):
    """The infinite-horizon average cost of u = Kx with unit noise; infinite if unstable."""
    closed = A + K
    if np.abs(np.linalg.eigvals(closed)).max() >= 1:
        return np.inf
    return np.trace(linalg.solve_discrete_lyapunov(closed.T, Q + K.T @ R @ K))


def test_the_closed_form_is_the_optimum():
    P = linalg.solve_discrete_are(A, np.eye(3), Q, R)
    K = -np.linalg.solve(R + P, P @ A)
    np.testing.assert_allclose(average_cost(K), np.trace(P), rtol=1e-9)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert average_cost(K + 0.01 * rng.normal(size=(3, 3))) > average_cost(K)


def test_reaches_the_optimum_of_the_lqr(float64):
    """From K = 0, which is unstable, to within 2 % of the optimal cost, over seeds."""

    def reward(K, key):
        """Minus the average cost of one noisy trajectory from x = 0."""

        def step(x, noise):
            u = K.reshape(3, 3) @ x
            return jnp.asarray(A) @ x + u + noise, x @ jnp.asarray(Q) @ x + u @ u

        noise = jax.random.normal(key, (HORIZON, 3))
        return -jnp.mean(jax.lax.scan(step, jnp.zeros(3), noise)[1])

    strategy = jaxes.ars(64, sigma=0.01, learning_rate=0.003, elite_fraction=0.5)

    def generation(state, key):
        ask_key, noise_key = jax.random.split(key)
        rewards = jax.vmap(reward)(
            strategy.ask(ask_key, state), jax.random.split(noise_key, strategy.population_size)
        )
        return strategy.tell(ask_key, state, rewards), state.mean

    @jax.jit
    @jax.vmap
    def train(key):
        start = strategy.init(jnp.zeros(9))
        return jax.lax.scan(generation, start, jax.random.split(key, 600))[1]

    P = linalg.solve_discrete_are(A, np.eye(3), Q, R)
    assert average_cost(np.zeros((3, 3))) == np.inf
    for means in train(jax.random.split(jax.random.key(0), 2)):
        K = np.asarray(means[-200:]).mean(axis=0).reshape(3, 3)
        assert average_cost(K) < 1.02 * np.trace(P)
