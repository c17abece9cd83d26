"""Policy search: the fitness of a parameter vector is the return of the policy that it makes."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes.checks import check, check_count, check_number, check_positive
from jaxes.core import TEST, TRAIN, Evaluation, Population, Problem
from jaxes.environment import Environment, observation_size
from jaxes.policies import Params, Policy, PolicyFactory, PolicyState
from jaxes.problems.observations import (
    Normalizer,
    ObservationStatistics,
    merge,
    no_observations,
    std,
)
from jaxes.rollouts.episodes import Context, Episode, Moments, make_simulation
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.rollouts.tuning import tuned_lanes
from jaxes.rollouts.width import Width, suitable_lanes
from jaxes.trials import of_trial, pooled

Lanes = int | Literal["tune"] | None


class HParams(NamedTuple):
    alive_bonus: Array | float
    observation_clip: Array | float


class State(NamedTuple):
    observations: ObservationStatistics | None  # None where they are not normalized
    hparams: HParams


class Actor(NamedTuple):
    """What one job acts with: the policy's parameters, and how observations are normalized."""

    params: Params
    normalizer: Normalizer | None


def policy_search(
    environment: Environment,
    policy: PolicyFactory,
    *,
    episode_length: int,
    num_episodes: int,
    num_test_episodes: int,
    normalize_observations: bool,
    observation_clip: float,
    alive_bonus: float,
    num_lanes: Lanes,
) -> Problem:
    """A `Problem` from an environment and a policy.

    A member's fitness is the mean over `num_episodes` episodes of (return - alive_bonus · steps).
    In a generation all members meet the same episodes (common random numbers), and each generation
    draws new ones. Observations are normalized by statistics over all earlier generations.

    See `jaxes.problems.brax` for the arguments.
    """
    for field, value in [
        ("episode_length", episode_length),
        ("num_episodes", num_episodes),
        ("num_test_episodes", num_test_episodes),
        ("num_lanes", 1 if num_lanes in (None, "tune") else num_lanes),
    ]:
        check_count(field, value)
    check_positive("observation_clip", observation_clip)
    check_number("alive_bonus", alive_bonus)
    check("policy", policy, callable(policy), "made by a function of jaxes.policies, such as mlp")

    num_observations = observation_size(environment)
    network = policy(num_observations, environment.action_size)
    template = jax.eval_shape(network.init, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template)
    search = _PolicySearch(
        environment=environment,
        network=network,
        unravel=ravel_pytree(zeros)[1],
        episode_length=episode_length,
        num_episodes=num_episodes,
        num_test_episodes=num_test_episodes,
        num_observations=num_observations if normalize_observations else None,
        num_lanes=tuned_lanes(environment, network) if num_lanes == "tune" else None,
        required_lanes=num_lanes if isinstance(num_lanes, int) else None,
    )
    defaults = HParams(alive_bonus, observation_clip)

    def init(key: Array, hparams: HParams = defaults) -> State:
        return State(
            observations=no_observations(num_observations) if normalize_observations else None,
            hparams=jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), hparams),
        )

    def initial_mean(key: Array) -> Array:
        return ravel_pytree(network.init(key))[0]

    return Problem(init, pooled(search.evaluate), initial_mean, defaults)


@dataclasses.dataclass(frozen=True)
class _PolicySearch:
    """The static arguments of `policy_search`, and what a generation of T trials does with them.

    A trial's jobs are J = N · num_episodes + num_test_episodes: member by member the population's
    episodes, then those that test the mean. Job number t · J + j is job j of trial t.
    """

    environment: Environment
    network: Policy
    unravel: Callable[[Array], Params]
    episode_length: int
    num_episodes: int
    num_test_episodes: int
    num_observations: int | None  # None where they are not normalized
    num_lanes: int | None
    required_lanes: int | None

    def evaluate(
        self, keys: Array, populations: Population, problem_states: State, phases: Array
    ) -> Evaluation:
        """What `jaxes.trials.pooled` asks for."""
        num_trials, num_train_jobs = phases.size, populations.size * self.num_episodes
        num_jobs = num_train_jobs + self.num_test_episodes
        # Test episodes are numbered on from the population's, so that they are fresh.
        episodes = jnp.arange(self.num_episodes + self.num_test_episodes, dtype=jnp.int32)
        train_episodes, test_episodes = jnp.split(episodes, [self.num_episodes])
        episode = jnp.concatenate([jnp.tile(train_episodes, populations.size), test_episodes])
        trials = jnp.arange(num_trials, dtype=jnp.int32)
        phase = jnp.where(jnp.arange(num_jobs) >= num_train_jobs, TEST, TRAIN)

        def episode_keys(key: Array) -> Array:
            return jax.vmap(partial(jax.random.fold_in, key))(episodes)

        simulation = make_simulation(
            self.environment,
            self.act,
            self.network,
            episode_length=self.episode_length,
            num_observations=self.num_observations,
        )
        results = rollout(
            simulation,
            Jobs(
                pending=(phase == phases[:, None]).reshape(-1),
                keys=jax.vmap(episode_keys)(keys).reshape(-1),
                episode=(trials[:, None] * episodes.size + episode).reshape(-1),
                context=partial(self.context, populations, problem_states),
            ),
            Width.of(self.lanes(num_trials * num_train_jobs)),
        )
        steps = jnp.sum(results.outcomes.length.astype(jnp.float32))
        utilization = steps / jnp.maximum(results.lane_steps, 1)
        episodes, moments = jax.tree.map(
            lambda leaf: leaf.reshape(num_trials, num_jobs, *leaf.shape[1:]), results[:2]
        )
        judge = jax.vmap(self.judge, in_axes=(0, 0, 0, None))
        return judge(problem_states, episodes, moments, utilization)

    def lanes(self, num_jobs: int) -> int:
        """How many lanes a device has."""
        if self.required_lanes is None:
            return suitable_lanes(num_jobs, self.num_lanes)
        why = f": there are {num_jobs} episodes a generation"
        check_count("num_lanes", self.required_lanes, most=num_jobs, why=why)
        return self.required_lanes

    def act(
        self, actor: Actor, policy_state: PolicyState, observation: Array
    ) -> tuple[Array, PolicyState]:
        if actor.normalizer is not None:
            observation = actor.normalizer(observation)
        return self.network.apply(actor.params, policy_state, observation)

    def context(self, populations: Population, problem_states: State, jobs: Array) -> Context:
        """What jobs [M] act with; numbers beyond the last job stand for none."""
        num_trials = jnp.size(problem_states.hparams.observation_clip)
        num_jobs = populations.size * self.num_episodes + self.num_test_episodes
        real = jobs < num_trials * num_jobs
        first = jnp.min(jobs) // num_jobs
        trial = jnp.where(real, jobs // num_jobs, jnp.minimum(first, num_trials - 1))
        job = jobs % num_jobs
        if num_trials == 1:
            found = self.solutions(of_trial(populations, 0), job)
        else:  # jobs that begin together are mostly of one trial, whose noise is drawn at once

            def fill(t: Array, found: Array) -> Array:
                those = self.solutions(of_trial(populations, t), job)
                return jnp.where((trial == t)[:, None], those, found)

            mean = populations.mean
            found = jnp.zeros((jobs.size, mean.shape[-1]), mean.dtype)
            found = jax.lax.fori_loop(jnp.min(trial), jnp.max(trial) + 1, fill, found)
        normalizer = self.normalizer(of_trial(problem_states, trial))
        return Context(
            Actor(jax.vmap(self.unravel)(found), normalizer),
            center=None if normalizer is None else normalizer.mean,
            discount=jnp.ones(jobs.size, jnp.float32),
        )

    def normalizer(self, problem_state: State) -> Normalizer | None:
        observations, hparams = problem_state
        if observations is None:
            return None
        return Normalizer(observations.mean, std(observations), hparams.observation_clip)

    def solutions(self, population: Population, job: Array) -> Array:
        """The parameter vectors [M, D] of these jobs [M] of one trial."""
        is_test = job >= population.size * self.num_episodes
        members = population(jnp.minimum(job // self.num_episodes, population.size - 1))
        return jnp.where(is_test[:, None], population.mean, members)

    def judge(
        self, problem_state: State, episodes: Episode, moments: Moments, utilization: Array
    ) -> Evaluation:
        """What the episodes [J] of one trial come to."""
        num_train_jobs = episodes.length.size - self.num_test_episodes
        train = jax.tree.map(lambda leaf: leaf[:num_train_jobs], episodes)
        test = jax.tree.map(lambda leaf: leaf[num_train_jobs:], episodes)
        observations, hparams = problem_state
        if observations is not None:
            train_moments = Moments(*(leaf[:num_train_jobs] for leaf in moments))
            observations = merge(observations, train, train_moments)
        score = train.total_reward - hparams.alive_bonus * train.length
        score = jnp.where(train.diverged, jnp.nan, score)
        returns = jnp.where(train.diverged, jnp.nan, train.total_reward)
        returns = returns.reshape(-1, self.num_episodes).mean(axis=1)
        metrics = {
            "return/mean": jnp.nanmean(returns),
            "return/max": jnp.nanmax(returns),
            "rollout/env_steps": train.length.sum(),
            "rollout/episode_length": train.length.mean(),
            "rollout/diverged": train.diverged.sum(),
            "rollout/utilization": utilization,
            "test/returns": test.total_reward,
            "test/diverged": test.diverged.sum(),
        }
        return Evaluation(
            fitness=score.reshape(-1, self.num_episodes).mean(axis=1),
            problem_state=State(observations, hparams),
            metrics=metrics,
        )
