import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.core import Population
from jaxes.problems import functions


def evaluate(problem, num_dims, population_size=100):
    strategy = jaxes.cem(population_size, sigma=2.0)
    key = jax.random.key(0)
    state = strategy.init(problem.initial_mean(key))
    population = Population(strategy.ask, key, state, population_size)
    return population, problem.evaluate(key, population, problem.init(key))


@pytest.mark.parametrize("name", sorted(functions.FUNCTIONS))
def test_the_optimum_is_zero_and_nothing_else_is(name):
    problem = functions.FUNCTIONS[name](6)
    population, evaluation = evaluate(problem, 6)
    assert evaluation.fitness.shape == (100,)
    assert (evaluation.fitness < 0).all()
    state = population.state._replace(mean=jnp.asarray(functions.optimum(6)))
    best = Population(population.ask, population.key, state, population.size)
    returns = problem.evaluate(population.key, best, ()).tests.returns
    np.testing.assert_allclose(returns, 0, atol=1e-5)


def test_values_by_hand():
    z = np.asarray(evaluate(functions.sphere(3), 3)[0]()) - np.asarray(functions.optimum(3))
    expected = {
        "sphere": (z**2).sum(axis=1),
        "ellipsoid": (z**2 * [1, 1e3, 1e6]).sum(axis=1),
        "ackley": 20 * (1 - np.exp(-0.2 * np.sqrt((z**2).mean(axis=1))))
        + np.e
        - np.exp(np.cos(2 * np.pi * z).mean(axis=1)),
        "rastrigin": (z**2 + 10 - 10 * np.cos(2 * np.pi * z)).sum(axis=1),
        "rosenbrock": sum(
            100 * (z[:, i + 1] + 1 - (z[:, i] + 1) ** 2) ** 2 + z[:, i] ** 2 for i in range(2)
        ),
    }
    for name, values in expected.items():
        _, evaluation = evaluate(functions.FUNCTIONS[name](3), 3)
        np.testing.assert_allclose(-evaluation.fitness, values, rtol=2e-4, atol=1e-3)


def test_the_rotated_ellipsoid_is_an_ellipsoid_with_other_axes():
    """Its Hessian has the ellipsoid's eigenvalues, and is not diagonal."""
    problem = functions.rotated_ellipsoid(3)

    @jax.jit
    def value(x):
        population, _ = evaluate(problem, 3, population_size=20)
        state = population.state._replace(mean=x)
        at_x = Population(population.ask, population.key, state, population.size)
        return -problem.evaluate(population.key, at_x, ()).tests.returns[0]

    with jax.enable_x64(True):
        optimum, axes = jnp.asarray(functions.optimum(3)), np.eye(3)
        along = [value(optimum + axis) for axis in axes]  # half the diagonal, since it is quadratic
        hessian = np.array(
            [
                [value(optimum + axes[i] + axes[j]) - along[i] - along[j] for j in range(3)]
                for i in range(3)
            ]
        )
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [2, 2e3, 2e6], rtol=1e-6)
    assert np.abs(hessian[0, 1:]).min() > 1e3


def test_a_function_of_your_own():
    problem = jaxes.problems.function(lambda x: -jnp.sum((x - 3) ** 2), lambda key: jnp.zeros(2))
    strategy = jaxes.cma_es(8)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    run = jax.jit(
        lambda state: jaxes.run(
            jaxes.make_update_step(strategy, problem), jax.random.key(1), state, 100
        )
    )
    np.testing.assert_allclose(run(state)[0].strategy.mean, 3, atol=1e-3)


@pytest.mark.parametrize("fn", [lambda x: x, lambda x: (x[0], x), lambda x: None])
def test_a_function_to_something_else_than_a_number_is_refused(fn):
    problem = functions.function(fn, lambda key: jnp.zeros(3))
    strategy = jaxes.cma_es(8)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    with pytest.raises(ValueError, match="fn must be a function to one real number"):
        jaxes.make_update_step(strategy, problem)(jax.random.key(1), state)


def test_a_constant_is_a_function():
    problem = functions.function(lambda x: 1.0, lambda key: jnp.zeros(3))
    strategy = jaxes.cma_es(8)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    _, metrics = jaxes.make_update_step(strategy, problem)(jax.random.key(1), state)
    assert metrics["fitness/mean"] == 1
