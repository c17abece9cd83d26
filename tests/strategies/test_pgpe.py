"""PGPE against the equations of the paper, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxes


def test_is_the_papers_symmetric_update(float64):
    """Sehnke et al. (2010), section 2.3, written over pairs: with the ranks as rewards, b = 0."""
    directions, sigma, rate, std_rate = 20, 0.3, 0.05, 0.4
    strategy = jaxes.pgpe(
        2 * directions,
        sigma=sigma,
        learning_rate=rate,
        std_learning_rate=std_rate,
        std_max_change=0.01,
        optimizer="sgd",
    )
    mean = np.array([0.3, -0.7, 2.0])
    key, state = jax.random.key(5), strategy.init(jnp.asarray(mean))
    state = state._replace(std=jnp.array([0.1, 0.3, 0.5]))
    std = np.asarray(state.std)
    solutions = np.asarray(strategy.ask(key, state))
    fitness = -((solutions - 1) ** 2 * [1.0, 4.0, 9.0]).sum(axis=1)
    told = strategy.tell(key, state, jnp.asarray(fitness))

    rewards = np.argsort(np.argsort(fitness)) / (2 * directions - 1) - 0.5
    plus, minus = rewards[0::2], rewards[1::2]
    epsilon = solutions[0::2] - mean
    np.testing.assert_allclose(solutions[1::2], mean - epsilon)
    mean_gradient = ((plus - minus) / 2) @ epsilon / directions
    std_gradient = ((plus + minus) / 2) @ ((epsilon**2 - std**2) / std) / directions
    change = np.clip(std_rate * std_gradient, -0.01 * std, 0.01 * std)
    np.testing.assert_allclose(told.mean, mean + rate * mean_gradient, rtol=1e-9)
    np.testing.assert_allclose(told.std, std + change, rtol=1e-9)
    assert 0 < np.sum(np.abs(change) < 0.0099 * std) < 3  # clipped in some, not in all


def test_a_step_with_clipup_is_no_longer_than_its_speed():
    strategy = jaxes.pgpe(32, sigma=0.5, learning_rate=0.05)
    state, lengths = strategy.init(jnp.full(6, 5.0)), []
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(40):
        key = jax.random.key(generation)
        told = tell(key, state, -1e6 * jnp.sum(ask(key, state) ** 2, axis=1))
        lengths.append(float(jnp.linalg.norm(told.mean - state.mean)))
        state = told
    np.testing.assert_allclose(lengths[0], 0.05, rtol=1e-4)
    np.testing.assert_allclose(max(lengths), 0.1, rtol=1e-3)
