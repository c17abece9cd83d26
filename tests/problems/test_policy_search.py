"""Fitness, tests and statistics of policies, on episodes computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walks import EPISODE_LENGTH, walk

import jaxes
from jaxes.core import TEST, TRAIN, Population
from jaxes.problems.policy_search import policy_search

SETTINGS = {
    "episode_length": EPISODE_LENGTH,
    "num_episodes": 3,
    "num_test_episodes": 6,
    "normalize_observations": False,
    "observation_clip": 10.0,
    "alive_penalty": 0.0,
    "num_lanes": 4,
}


def evaluate(problem, hparams=None, phase=TRAIN, population_size=10):
    strategy = jaxes.cem(population_size, elite_fraction=0.5, sigma=0.3)
    key = jax.random.key(1)
    state = strategy.init(problem.initial_mean(key) + 0.1)
    population = Population(strategy.ask, key, state, population_size)
    problem_state = problem.init(key, hparams or problem.hparams)
    return population, problem.evaluate(key, population, problem_state, phase)


reset, step = jax.jit(walk().reset), jax.jit(walk().step)


def linear_return(weights, key):
    """One episode of a linear policy (output 'none') in plain Python: return and length."""
    state, observation = reset(key)
    total, length, done = 0.0, 0, False
    while not done and length < EPISODE_LENGTH:
        state, observation, reward, done = step(state, (observation @ weights)[None])
        total, length = total + float(reward), length + 1
    return total, length


def test_more_lanes_than_episodes_are_refused():
    problem = policy_search(walk(), jaxes.policies.linear(), **SETTINGS | {"num_lanes": 31})
    with pytest.raises(ValueError, match=r"num_lanes must be .* at most 30: there are 30 episodes"):
        evaluate(problem)


def test_fitness_is_the_mean_over_common_episodes_less_the_bonus():
    problem = policy_search(walk(), jaxes.policies.linear(output="none"), **SETTINGS)
    hparams = problem.hparams._replace(alive_penalty=0.25)
    population, evaluation = evaluate(problem, hparams)
    keys = [jax.random.fold_in(jax.random.key(1), episode) for episode in range(3)]
    for member, weights in enumerate(population()):
        returns, lengths = np.transpose([linear_return(weights, key) for key in keys])
        np.testing.assert_allclose(
            evaluation.fitness[member], np.mean(returns - 0.25 * lengths), rtol=1e-4
        )
    _, without = evaluate(problem)
    np.testing.assert_allclose(evaluation.metrics["return/mean"], without.fitness.mean(), rtol=1e-5)


def test_a_test_runs_fresh_episodes_of_the_mean_alone():
    problem = policy_search(walk(), jaxes.policies.linear(output="none"), **SETTINGS)
    population, evaluation = evaluate(problem, phase=TEST)
    keys = [jax.random.fold_in(jax.random.key(1), 3 + episode) for episode in range(6)]
    expected = [linear_return(population.mean, key)[0] for key in keys]
    np.testing.assert_allclose(evaluation.tests.returns, expected, rtol=1e-4)
    assert evaluation.metrics["rollout/env_steps"] == 0


def test_a_diverging_member_is_nan_and_touches_nothing_else():
    policy = jaxes.policies.linear(output="none")
    settings = SETTINGS | {"num_episodes": 1}
    _, healthy = evaluate(policy_search(walk(), policy, **settings))
    _, broken = evaluate(policy_search(walk(limit=160.0), policy, **settings))
    diverged = np.isnan(broken.fitness)
    assert 0 < diverged.sum() < 10
    assert broken.metrics["rollout/diverged"] == diverged.sum()
    np.testing.assert_array_equal(broken.fitness[~diverged], healthy.fitness[~diverged])
    assert healthy.metrics["rollout/diverged"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(broken.problem_state))


def on_lanes(num_lanes):
    """An evaluation of a policy with memory."""
    settings = SETTINGS | {"normalize_observations": True, "num_lanes": num_lanes}
    return evaluate(policy_search(walk(), jaxes.policies.gru(hidden_size=3), **settings))[1]


@pytest.fixture(scope="module")
def expected():
    return on_lanes(4)


@pytest.mark.parametrize("num_lanes", [1, pytest.param(5, marks=pytest.mark.slow), None])
def test_results_do_not_depend_on_the_lanes(num_lanes, expected):
    other = on_lanes(num_lanes)
    np.testing.assert_allclose(other.fitness, expected.fitness, rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(other.problem_state), jax.tree.leaves(expected.problem_state), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_normalization_reaches_the_policy():
    policy = jaxes.policies.linear(output="none")
    problem = policy_search(walk(), policy, **SETTINGS | {"normalize_observations": True})
    strategy = jaxes.cem(10, elite_fraction=0.5)
    key = jax.random.key(0)
    state = strategy.init(jnp.ones(2))
    population = Population(strategy.ask, key, state, 10)
    problem_state = problem.init(key)
    first = problem.evaluate(key, population, problem_state)
    second = problem.evaluate(key, population, first.problem_state)
    assert not np.allclose(first.fitness, second.fitness)
    assert second.problem_state.observations.count == 2 * first.problem_state.observations.count


@pytest.mark.parametrize("field", ["episode_length", "num_episodes", "num_lanes"])
def test_counts_below_one_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be a whole number of at least 1, got 0"):
        policy_search(walk(), jaxes.policies.linear(), **SETTINGS | {field: 0})
