"""What an episode comes to, on an environment that is counted by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxes
from jaxes.core import TEST, TRAIN, Population
from jaxes.problems.policy_search import policy_search

BOUND = 6


class Count(NamedTuple):
    steps: jax.Array
    last: jax.Array  # the step with which it ends


def count(breaks_at=None, **actions):
    """Ends by itself after 1 to 10 steps; each earns its number plus the action."""

    def reset(key):
        state = Count(jnp.zeros((), jnp.int32), jax.random.randint(key, (), 1, 11))
        return state, jnp.zeros(2)

    def step(state, action):
        state = state._replace(steps=state.steps + 1)
        reward = state.steps + jnp.sum(action).astype(jnp.float32)
        if breaks_at is not None:
            reward = jnp.where(state.steps == breaks_at, jnp.nan, reward)
        observation = jnp.stack([state.steps, state.last]).astype(jnp.float32)
        return state, observation, reward, state.steps == state.last

    return jaxes.Environment(reset, step, **(actions or {"action_size": 1}))


def evaluate(problem, phase=TEST, mean=None, size=4):
    strategy, key = jaxes.openai_es(size, sigma=0.3), jax.random.key(5)
    state = strategy.init(problem.initial_mean(key) if mean is None else mean)
    population = Population(strategy.ask, key, state, size)
    return population, jax.jit(problem.evaluate)(key, population, problem.init(key), phase)


def last_steps(first, number):
    keys = [jax.random.fold_in(jax.random.key(5), first + i) for i in range(number)]
    return np.array([count().reset(key)[0].last for key in keys])


def test_an_episode_is_cut_or_ends_or_diverges():
    problem = policy_search(
        count(breaks_at=4), jaxes.policies.linear(), episode_length=BOUND, num_test_episodes=30
    )
    tests = evaluate(problem)[1].tests
    np.testing.assert_array_equal(tests.diverged, last_steps(1, 30) >= 4)
    assert not tests.truncated.any()

    problem = policy_search(
        count(), jaxes.policies.linear(), episode_length=BOUND, num_test_episodes=30
    )
    tests, last = evaluate(problem)[1].tests, last_steps(1, 30)
    assert BOUND in last  # one that ends with the bound is not cut
    np.testing.assert_array_equal(tests.truncated, last > BOUND)
    np.testing.assert_array_equal(tests.length, np.minimum(last, BOUND))
    assert not tests.diverged.any()


def test_fitness_is_discounted_and_returns_are_not():
    problem = policy_search(
        count(), jaxes.policies.linear(), discount=0.9, alive_penalty=0.5, num_episodes=3
    )
    zero = jnp.zeros_like(problem.initial_mean(jax.random.key(0)))
    strategy = jaxes.openai_es(4, sigma=1e-12)
    population = Population(strategy.ask, jax.random.key(5), strategy.init(zero), 4)
    out = jax.jit(problem.evaluate)(jax.random.key(5), population, problem.init(jax.random.key(5)))
    last = last_steps(0, 3)
    discounted = [sum(0.9**t * (t + 1) for t in range(n)) - 0.5 * n for n in last]
    np.testing.assert_allclose(out.fitness, np.mean(discounted), rtol=1e-5)
    returns = [sum(range(1, n + 1)) for n in last]
    np.testing.assert_allclose(out.metrics["return/mean"], np.mean(returns), rtol=1e-5)


def test_memory_may_start_from_a_key_which_members_share():
    """An action that is the memory, drawn at the episode's start."""

    def policy(observation_size, action_size):
        return jaxes.policies.Policy(
            init=lambda key: jnp.zeros(1),
            initial_state=jax.random.normal,
            apply=lambda params, memory, observation: (memory[None], memory),
        )

    problem = policy_search(count(), policy, num_episodes=2, num_test_episodes=3)
    tests, last = evaluate(problem)[1].tests, last_steps(2, 3)
    keys = [jax.random.fold_in(jax.random.key(5), 2 + i) for i in range(3)]
    drawn = [float(jax.random.normal(jax.random.fold_in(key, 1))) for key in keys]
    expected = [sum(range(1, n + 1)) + n * x for n, x in zip(last, drawn, strict=True)]
    np.testing.assert_allclose(tests.returns, expected, rtol=1e-5)
    fitness = evaluate(problem, phase=TRAIN)[1].fitness
    np.testing.assert_array_equal(fitness, fitness[0])


def test_discrete_actions_are_the_index_of_the_greatest_output():
    seen = []

    def step(state, action):
        seen.append((action.shape, action.dtype))
        return count().step(state, action)

    environment = count(num_actions=3)._replace(step=step)
    policy = jaxes.policies.mlp((), output="none")
    problem = policy_search(environment, policy, num_test_episodes=4)
    zero = jnp.zeros_like(problem.initial_mean(jax.random.key(0)))
    params = policy(2, 3).init(jax.random.key(0))
    ravel, unravel = ravel_pytree(params)
    params = unravel(zero)
    params["params"]["Dense_0"]["bias"] = jnp.array([0.0, -1.0, 2.0])
    mean = ravel_pytree(params)[0]
    assert mean.size == ravel.size
    tests, last = evaluate(problem, mean=mean)[1].tests, last_steps(1, 4)
    np.testing.assert_allclose(tests.returns, [sum(range(1, n + 1)) + 2 * n for n in last])
    assert set(seen) == {((), jnp.dtype("int32"))}


@pytest.mark.parametrize(
    ("actions", "normalize"), [({"action_size": 1}, True), ({"num_actions": 2}, False)]
)
def test_the_problems_policy_acts_as_the_engine_does(actions, normalize):
    environment = count(**actions)
    problem = policy_search(
        environment,
        jaxes.policies.gru(3),
        num_test_episodes=3,
        episode_length=5,
        normalize_observations=normalize,
    )
    assert problem.environment is environment
    population, first = evaluate(problem, phase=TRAIN)
    key = jax.random.key(6)
    tests = jax.jit(problem.evaluate)(key, population, first.problem_state, TEST).tests
    policy = problem.policy(population.mean, first.problem_state)
    params = policy.init(key)
    for episode in range(3):
        state, observation = environment.reset(jax.random.fold_in(key, 1 + episode))
        memory, total, done, steps = policy.initial_state, 0.0, False, 0
        while not done and steps < 5:
            action, memory = policy.apply(params, memory, observation)
            state, observation, reward, done = environment.step(state, action)
            total, steps = total + float(reward), steps + 1
        np.testing.assert_allclose(tests.returns[episode], total, rtol=1e-4)


def test_statistics_are_kept_only_where_they_are_used():
    settings = {"num_test_episodes": 1, "normalize_observations": False}
    problem = policy_search(count(), jaxes.policies.linear(), **settings)
    _, out = evaluate(problem, phase=TRAIN)
    assert out.problem_state.observations is None


# What is wrong, if anything, in an episode of 3 steps: at the reset (0), in the first, in the last.
PLACES = [(0, 0), (0, 1), (0, 3), (1, 1), (1, 3)]  # whether it is the reward, and when
WRONG = [(1, 9, 0.0), *((*at, bad) for at in PLACES for bad in (jnp.nan, jnp.inf, -jnp.inf))]


def test_what_is_not_finite_diverges_whenever_it_comes():
    """One program of all kinds, of which the key of an episode draws one."""
    is_reward, when, value = map(jnp.array, zip(*WRONG, strict=True))

    def seen(kind, steps):
        number = jnp.where(steps == when[kind], value[kind], -1.0)
        observation, reward = jnp.where(is_reward[kind] == jnp.arange(2), number, -1.0)
        return observation[None], reward

    def reset(key):
        kind = jax.random.randint(key, (), 0, len(WRONG))
        return (kind, jnp.int32(0)), seen(kind, 0)[0]

    def step(state, action):
        kind, steps = state[0], state[1] + 1
        return (kind, steps), *seen(kind, steps), steps == 3

    def kinds(key, first, number):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(number))
        return np.array(jax.vmap(lambda key: reset(key)[0][0])(keys))

    environment = jaxes.Environment(reset, step, 1)
    problem = policy_search(environment, jaxes.policies.linear(), num_test_episodes=150)
    population, evaluation = evaluate(problem)
    drawn = kinds(jax.random.key(5), 1, 150)
    assert set(drawn) == set(range(len(WRONG)))
    np.testing.assert_array_equal(evaluation.tests.diverged, drawn > 0)
    np.testing.assert_array_equal(evaluation.tests.length, np.clip(when, 1, 3)[drawn])
    assert not evaluation.tests.truncated.any()
    run, trained = jax.jit(problem.evaluate), set()
    for key in jax.random.split(jax.random.key(6), 100):
        (kind,) = kinds(key, 0, 1)
        fitness = run(key, population, problem.init(key), TRAIN).fitness
        np.testing.assert_array_equal(np.isnan(fitness), kind > 0)
        trained.add(kind)
    assert trained == set(drawn)
