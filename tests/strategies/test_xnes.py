"""xNES and SNES against an independent implementation and their definition."""

import cmaes
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes


def rotated_ellipsoid(n):
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    scales = 10.0 ** (6 * np.arange(n) / (n - 1))
    return lambda solutions: ((solutions @ rotation.T) ** 2 * scales).sum(axis=1)


@pytest.mark.parametrize(("n", "generations"), [(2, 20), (8, 60), (20, 60)])
def test_xnes_agrees_with_the_oracle(n, generations, float64):
    """Same solutions, same fitness: mean, σ and B agree to 1e-10.

    The oracle recovers z as B⁻¹(x - μ)/σ, which costs it digits as σ falls: the search starts far
    away, and is short where n is small, so that it is still on its way at the end.
    """
    cost, mean = rotated_ellipsoid(n), 1e3 * np.random.default_rng(n + 1).normal(size=n)
    population_size = 4 + int(3 * np.log(n))
    strategy = jaxes.xnes(population_size, sigma=0.5)
    oracle = cmaes.XNES(mean.copy(), 0.5, population_size=population_size)
    state = strategy.init(jnp.asarray(mean))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(generations):
        key = jax.random.key(generation)
        solutions = np.asarray(ask(key, state))
        values = cost(solutions)
        state = tell(key, state, jnp.asarray(-values))
        oracle.tell(list(zip(solutions, values, strict=True)))
        for name in ("mean", "sigma", "B"):
            theirs = getattr(oracle, f"_{name}")
            scale = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(
                getattr(state, name), theirs, rtol=0, atol=1e-10 * scale, err_msg=name
            )


def test_xnes_keeps_the_determinant_of_its_shape(float64):
    strategy = jaxes.xnes(10)
    state = strategy.init(jnp.zeros(5))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(30):
        key = jax.random.key(generation)
        cost = rotated_ellipsoid(5)(np.asarray(ask(key, state)))
        state = tell(key, state, jnp.asarray(-cost))
    np.testing.assert_allclose(np.linalg.det(state.B), 1, rtol=1e-9)
    assert np.linalg.cond(state.B) > 2


def test_weights_without_a_bound_leave_the_shape_finite():
    @jaxes.weights.sums_to(0)
    def centred(fitness):
        raw = jaxes.weights.raw(fitness)
        return raw - jnp.mean(raw)

    strategy = jaxes.xnes(24, weights=centred)
    state = strategy.init(jnp.zeros(3))
    tell = jax.jit(strategy.tell)
    for key in jax.random.split(jax.random.key(0), 20):
        fitness = -1e6 * jnp.sum((strategy.ask(key, state) - 1) ** 2, axis=1)
        state = tell(key, state, fitness)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
