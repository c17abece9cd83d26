"""SNES against its definition."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxes


def test_snes_is_its_definition(float64):
    d, population_size = 6, 12
    strategy = jaxes.snes(population_size, sigma=0.7)
    mean = np.arange(1.0, d + 1)
    state, std = strategy.init(jnp.asarray(mean)), np.full(d, 0.7)
    utilities = np.maximum(0, np.log(population_size / 2 + 1) - np.log(np.arange(1, 13)))
    utilities = utilities / utilities.sum() - 1 / population_size
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(20):
        key = jax.random.key(generation)
        solutions = np.asarray(ask(key, state))
        fitness = -((solutions * np.arange(1, d + 1)) ** 2).sum(axis=1)
        state = tell(key, state, jnp.asarray(fitness))
        z = ((solutions - mean) / std)[np.argsort(-fitness)]
        mean = mean + std * (utilities @ z)
        std = std * np.exp((3 + np.log(d)) / (5 * np.sqrt(d)) / 2 * (utilities @ (z**2 - 1)))
        np.testing.assert_allclose(state.mean, mean, rtol=1e-8)
        np.testing.assert_allclose(state.std, std, rtol=1e-8)
