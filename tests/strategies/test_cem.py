"""The cross-entropy method against its definition in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes


@pytest.mark.parametrize(
    ("noise", "decay", "added"),
    [(0.0, 0.0, [0, 0, 0]), (4.0, 0.0, [4, 4, 4]), (5.0, 2.0, [5, 3, 1])],
)
def test_refits_to_the_elites_and_adds_variance(noise, decay, added, float64):
    strategy = jaxes.cem(100, sigma=10.0, elite_fraction=0.1, noise=noise, noise_decay=decay)
    state = strategy.init(jnp.array([1.0, -2.0, 3.0]))
    np.testing.assert_array_equal(state.std, 10.0)
    for generation in range(3):
        key = jax.random.key(generation)
        solutions = np.asarray(strategy.ask(key, state))
        fitness = -((solutions - 5) ** 2 * [1, 10, 100]).sum(axis=1)
        state = strategy.tell(key, state, jnp.asarray(fitness))
        elites = solutions[np.argsort(-fitness)[:10]]
        np.testing.assert_allclose(state.mean, elites.mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(state.std**2, elites.var(axis=0) + added[generation], rtol=1e-10)


def test_the_elite_fraction_may_be_traced(float64):
    strategy = jaxes.cem(20)
    key, mean = jax.random.key(0), jnp.zeros(2)

    @jax.jit
    def new_mean(fraction):
        state = strategy.init(mean, strategy.hparams._replace(elite_fraction=fraction))
        return strategy.tell(key, state, strategy.ask(key, state)[:, 0]).mean

    solutions = np.asarray(strategy.ask(key, strategy.init(mean)))
    for k in (1, 5, 20):
        elites = solutions[np.argsort(-solutions[:, 0])[:k]]
        np.testing.assert_allclose(new_mean(k / 20), elites.mean(axis=0), rtol=1e-9, atol=1e-12)
