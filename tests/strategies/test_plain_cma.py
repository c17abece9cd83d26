"""The plain form against its definition, in numbers computed with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxes


def test_is_its_definition(float64):
    d, population_size, alpha, epsilon = 4, 40, 0.7, 1e-3
    strategy = jaxes.plain_cma(
        population_size, sigma=0.8, learning_rate=alpha, elite_fraction=0.3, epsilon=epsilon
    )
    mean = np.arange(1.0, d + 1)
    state = strategy.init(jnp.asarray(mean))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(10):
        key = jax.random.key(generation)
        solutions = np.asarray(ask(key, state))
        fitness = -((solutions @ np.tri(d)) ** 2).sum(axis=1)
        state = tell(key, state, jnp.asarray(fitness))
        elites = solutions[np.argsort(-fitness)[:12]]
        mean = mean + alpha * (elites.mean(axis=0) - mean)
        covariance = np.cov(elites.T, bias=True) + epsilon * np.eye(d)
        np.testing.assert_allclose(state.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(state.A @ state.A, covariance, rtol=1e-8, atol=1e-10)


def test_samples_have_the_covariance_of_the_state(float64):
    strategy = jaxes.plain_cma(100_000)
    A = jnp.array([[1.0, 0.5], [0.5, 2.0]])
    state = strategy.init(jnp.zeros(2))._replace(A=A)
    solutions = strategy.ask(jax.random.key(0), state)
    np.testing.assert_allclose(np.cov(solutions.T), A @ A, rtol=0.03)


def test_fewer_elites_than_dimensions_still_have_a_covariance():
    """Cov(elites) is singular; ε I fills what it lacks, in float32 too."""
    strategy = jaxes.plain_cma(12, epsilon=1e-6, sigma=1.0)
    state = strategy.init(jnp.full(10, 3.0))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(50):
        key = jax.random.key(generation)
        state = tell(key, state, -jnp.sum(ask(key, state) ** 2, axis=1))
    assert np.isfinite(state.A).all()
    assert np.linalg.eigvalsh(state.A).min() > 5e-4
