"""OpenAI-ES and NES against the published formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxes

MEAN = np.array([0.3, -0.7, 2.0])
SIGMA, RATE = 0.2, 0.05


def fitness_of(solutions):
    return -((solutions - 1) ** 2 * [1.0, 4.0, 9.0]).sum(axis=1)


def one_generation(strategy):
    key, state = jax.random.key(5), strategy.init(jnp.asarray(MEAN))
    solutions = np.asarray(strategy.ask(key, state))
    fitness = fitness_of(solutions)
    told = strategy.tell(key, state, jnp.asarray(fitness))
    return (solutions - MEAN) / SIGMA, fitness, np.asarray(told.mean)


def test_nes_is_algorithm_1(float64):
    epsilon, fitness, mean = one_generation(jaxes.nes(50, sigma=SIGMA, learning_rate=RATE))
    expected = MEAN + RATE / (50 * SIGMA) * fitness @ epsilon
    np.testing.assert_allclose(mean, expected, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-20, 1e9, 1e12])
def test_nes_takes_raw_fitness_of_any_size_in_float32(scale):
    strategy = jaxes.nes(50, sigma=SIGMA, learning_rate=RATE / scale)
    key, start = jax.random.key(5), strategy.init(jnp.asarray(MEAN, jnp.float32))
    solutions = np.asarray(strategy.ask(key, start), float)
    fitness = fitness_of(solutions)
    told = strategy.tell(key, start, jnp.asarray(scale * fitness, jnp.float32))
    mean = np.asarray(start.mean, float)
    expected = mean + RATE / (50 * SIGMA) * fitness @ ((solutions - mean) / SIGMA)
    np.testing.assert_allclose(told.mean, expected, rtol=1e-4)


def test_antithetic_pairs_mirror_each_other(float64):
    strategy = jaxes.openai_es(10, sigma=SIGMA)
    epsilon, _, _ = one_generation(strategy)
    np.testing.assert_allclose(epsilon[0::2], -epsilon[1::2], rtol=1e-9)
    assert len(np.unique(np.abs(epsilon[:, 0]).round(9))) == 5


@pytest.mark.parametrize("optimizer", ["sgd", "adam", optax.adamw], ids=["sgd", "adam", "adamw"])
def test_ascends_centered_ranks_with_any_optimizer(optimizer, float64):
    decay = 0.1
    strategy = jaxes.openai_es(
        50, sigma=SIGMA, learning_rate=RATE, weight_decay=decay, optimizer=optimizer
    )
    epsilon, fitness, mean = one_generation(strategy)
    ranks = np.argsort(np.argsort(fitness)) / 49 - 0.5
    gradient = ranks @ epsilon / (50 * SIGMA) - decay * MEAN
    make = getattr(optax, optimizer) if isinstance(optimizer, str) else optimizer
    transform = make(RATE)
    updates, _ = transform.update(-gradient, transform.init(MEAN), MEAN)
    np.testing.assert_allclose(mean, MEAN + np.asarray(updates), rtol=1e-9)


def test_ranks_ignore_monotone_transformations():
    strategy = jaxes.openai_es(20, sigma=SIGMA)
    key, state = jax.random.key(0), strategy.init(jnp.zeros(3))
    fitness = jnp.sum(strategy.ask(key, state), axis=1)
    np.testing.assert_array_equal(
        strategy.tell(key, state, fitness).mean,
        strategy.tell(key, state, jnp.exp(3 * fitness) - 7).mean,
    )
