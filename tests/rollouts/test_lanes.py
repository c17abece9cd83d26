"""The rollout engine on an environment whose episodes can be computed by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapters import Context, Episode, merge, rollout

import jaxes
from jaxes.core import TEST, TRAIN, Population
from jaxes.environments import Environment
from jaxes.problems.observations import ObservationStatistics, std
from jaxes.problems.policy_search import policy_search
from jaxes.rollouts.episodes import Moments
from jaxes.rollouts.lanes import Jobs
from jaxes.rollouts.width import Width

EPISODE_LENGTH = 20


class Walk(NamedTuple):
    position: jax.Array
    steps_left: jax.Array
    key: jax.Array  # unused: an environment with noise would keep one


def walk(breaks_at=None, limit=np.inf):
    """A point that moves by the action; an episode has 1 to 30 steps, drawn from its key.

    The reward is the new position; at `breaks_at` steps left it is NaN, and
    beyond `limit` the observation is as well.
    """

    def observe(state):
        return jnp.stack([state.position, state.steps_left.astype(jnp.float32)])

    def reset(key):
        position_key, length_key = jax.random.split(key)
        state = Walk(
            jax.random.normal(position_key), jax.random.randint(length_key, (), 1, 31), key
        )
        return state, observe(state)

    def step(state, action):
        state = Walk(state.position + action[0], state.steps_left - 1, state.key)
        reward = state.position
        if breaks_at is not None:
            reward = jnp.where(state.steps_left == breaks_at, jnp.nan, reward)
        observation = jnp.where(jnp.abs(state.position) > limit, jnp.nan, observe(state))
        return state, observation, reward, state.steps_left == 0

    return Environment(reset, step, action_size=1)


def act(params, policy_state, observation):
    """Remembers how often it acted; moves by params · that number."""
    return (params * policy_state)[None], policy_state + 1


def by_hand(key, param, breaks_at=None):
    """One episode in plain Python: return, length, diverged, observations."""
    state, _ = walk().reset(key)
    position, steps_left = float(state.position), int(state.steps_left)
    total, length, observations = 0.0, 0, []
    while steps_left > 0 and length < EPISODE_LENGTH:
        observations.append([position, steps_left])
        position += param * length
        steps_left -= 1
        length += 1
        if steps_left == breaks_at:
            return total, length, True, np.array(observations)
        total += position
    return total, length, False, np.array(observations)


def jobs_of(pending, centre=(0.0, 0.0)):
    """Job j starts from key j // 2 and acts with the parameter j / 100."""
    number = jnp.arange(pending.size)
    return Jobs(
        pending=pending,
        keys=jax.vmap(lambda episode: jax.random.fold_in(jax.random.key(0), episode))(number),
        episode=number // 2,
        context=lambda jobs: Context(
            0.01 * jobs.astype(jnp.float32), jnp.tile(jnp.asarray(centre), (jobs.size, 1))
        ),
    )


@pytest.mark.parametrize(
    "width",
    [
        Width(1, refill=1, tail=0, block=8),
        Width(3, refill=2, tail=0, block=1, sync=7),
        Width(8, refill=3, tail=3, block=2, sync=1),
        Width(16, refill=16, tail=8, block=8),
        Width(40, refill=8, tail=33, block=4, sync=5),
    ],
)
@pytest.mark.parametrize("queue", [(0, 40), (10, 30), (39, 40), (5, 5)])
def test_every_pending_job_runs_to_its_end(width, queue):
    centre = jnp.array([0.5, 10.0])
    result = rollout(
        walk(breaks_at=4),
        act,
        jnp.zeros(()),
        jobs_of((queue[0] <= jnp.arange(40)) & (jnp.arange(40) < queue[1]), centre),
        width=width,
        episode_length=EPISODE_LENGTH,
    )
    episodes = result.episodes
    for job in range(40):
        if not queue[0] <= job < queue[1]:
            assert episodes.length[job] == 0
            continue
        key = jax.random.fold_in(jax.random.key(0), job // 2)
        total, length, diverged, observations = by_hand(key, 0.01 * job, breaks_at=4)
        assert episodes.length[job] == length
        assert episodes.diverged[job] == diverged
        np.testing.assert_allclose(episodes.total_reward[job], total, rtol=1e-4, atol=1e-4)
        deviations = observations - np.asarray(centre)
        np.testing.assert_allclose(
            episodes.moments.first[job], deviations.sum(axis=0), rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            episodes.moments.second[job], (deviations**2).sum(axis=0), rtol=1e-4, atol=1e-3
        )
    assert (result.utilization > 0) == (queue[0] < queue[1])
    assert result.utilization <= 1


def test_steps_follow_the_episodes_not_their_bound():
    """Episodes of at most 30 steps under a bound of 10⁹ end at once."""
    result = rollout(
        walk(),
        act,
        jnp.zeros(()),
        jobs_of(jnp.ones(5, bool)),
        width=Width(5, refill=1, tail=0, block=1, sync=10**9),
        episode_length=10**9,
    )
    lengths = [
        walk().reset(jax.random.fold_in(jax.random.key(0), job // 2))[0][1] for job in range(5)
    ]
    np.testing.assert_array_equal(result.episodes.length, lengths)
    np.testing.assert_allclose(result.utilization, np.mean(lengths) / np.max(lengths), rtol=1e-6)


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


def linear_return(weights, key):
    """One episode of a linear policy (output 'none') in plain Python: return and length."""
    state, observation = walk().reset(key)
    total, length, done = 0.0, 0, False
    while not done and length < EPISODE_LENGTH:
        state, observation, reward, done = walk().step(state, (observation @ weights)[None])
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


@pytest.mark.parametrize("num_lanes", [1, 5, None])
def test_results_do_not_depend_on_the_lanes(num_lanes):
    policy = jaxes.policies.gru(hidden_size=3)
    settings = SETTINGS | {"normalize_observations": True}
    _, expected = evaluate(policy_search(walk(), policy, **settings))
    _, other = evaluate(policy_search(walk(), policy, **settings | {"num_lanes": num_lanes}))
    np.testing.assert_allclose(other.fitness, expected.fitness, rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(other.problem_state), jax.tree.leaves(expected.problem_state), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def one_step_episodes(deviations, diverged=False):
    number = len(deviations)
    moments = Moments(jnp.asarray(deviations), jnp.asarray(deviations**2))
    lengths = jnp.ones(number, jnp.int32)
    return Episode(jnp.zeros(number), lengths, jnp.full(number, diverged), moments)


def test_an_exploding_simulation_is_kept_out_of_the_statistics():
    statistics = ObservationStatistics(jnp.zeros(()), jnp.zeros(2), jnp.zeros(2))
    healthy = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    huge = np.array([[1e25, 1.0]], np.float32)  # finite, but not its square
    expected = merge(statistics, one_step_episodes(healthy))
    with np.errstate(over="ignore"):
        exploded = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves),
            one_step_episodes(healthy),
            one_step_episodes(huge),
            one_step_episodes(100 * healthy, diverged=True),
        )
    for ours, theirs in zip(merge(statistics, exploded), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_observation_statistics_are_those_of_all_observations():
    rng = np.random.default_rng(0)
    generations = [rng.normal(5, 3, size=(n, 2)).astype(np.float32) for n in (30, 7, 400)]
    statistics = ObservationStatistics(jnp.zeros(()), jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_array_equal(std(statistics), [1, 1])
    for observations in generations:
        deviations = observations - np.asarray(statistics.mean)
        statistics = merge(statistics, one_step_episodes(deviations))
    everything = np.concatenate(generations)
    np.testing.assert_allclose(statistics.mean, everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        statistics.sum_squares / statistics.count, everything.var(axis=0), rtol=1e-4
    )
    np.testing.assert_allclose(std(statistics), everything.std(axis=0), rtol=1e-4)


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
