"""Policy search: the fitness of a parameter vector is the return of the policy that it makes."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes import parallel
from jaxes.checks import check, check_count, check_number, check_positive
from jaxes.core import TEST, TRAIN, Evaluation, Population, Problem
from jaxes.environment import Environment, observation_size
from jaxes.policies import Params, PolicyFactory, PolicyState
from jaxes.problems.tuning import tuned_lanes
from jaxes.rollout import Context, Episode, Jobs, Width, rollout
from jaxes.trials import pooled

Lanes = int | Literal["tune"] | None


class HParams(NamedTuple):
    alive_bonus: Array | float
    observation_clip: Array | float


class ObservationStatistics(NamedTuple):
    """Of all observations so far: their number [], mean [O] and sum of squared deviations [O]."""

    number: Array
    mean: Array
    squared_deviations: Array


class State(NamedTuple):
    observations: ObservationStatistics
    hparams: HParams


class Actor(NamedTuple):
    """What one job acts with: the policy's parameters, and how observations are normalized."""

    params: Params
    mean: Array
    deviation: Array
    clip: Array


# Lanes that fill a device: more leave a CPU core's cache, fewer leave a GPU idle.
LANES = {"cpu": 128, "gpu": 8192, "tpu": 8192}
MIN_VARIANCE = 1e-4  # of an observation that hardly varies, so that it is not blown up


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
    unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template))[
        1
    ]

    tuned = tuned_lanes(environment, network) if num_lanes == "tune" else None

    defaults = HParams(alive_bonus, observation_clip)

    def init(key: Array, hparams: HParams = defaults) -> State:
        sizes = ((), num_observations, num_observations)
        return State(
            observations=ObservationStatistics(*(jnp.zeros(size, jnp.float32) for size in sizes)),
            hparams=jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), hparams),
        )

    def act(
        actor: Actor, policy_state: PolicyState, observation: Array
    ) -> tuple[Array, PolicyState]:
        if normalize_observations:
            observation = (observation - actor.mean) / actor.deviation
            observation = jnp.clip(observation, -actor.clip, actor.clip)
        return network.apply(actor.params, policy_state, observation)

    @pooled
    def evaluate(
        keys: Array, populations: Population, problem_states: State, phases: Array
    ) -> Evaluation:
        num_trials, size = phases.size, populations.size
        # A trial's jobs: member-major the population's episodes, then the mean's test episodes.
        num_train_jobs = size * num_episodes
        num_jobs = num_train_jobs + num_test_episodes
        if isinstance(num_lanes, int):
            why = f": there are {num_trials * num_train_jobs} episodes a generation"
            check_count("num_lanes", num_lanes, most=num_trials * num_train_jobs, why=why)
            lanes = num_lanes
        else:
            most = tuned or LANES.get(jax.default_backend(), 1024)
            lanes = suitable_lanes(num_trials * num_train_jobs, most)
        # Test episodes are numbered on from the population's, so that they are fresh.
        episodes = jnp.arange(num_episodes + num_test_episodes, dtype=jnp.int32)
        train_episodes, test_episodes = jnp.split(episodes, [num_episodes])
        episode = jnp.concatenate([jnp.tile(train_episodes, size), test_episodes])
        is_test = jnp.arange(num_jobs) >= num_train_jobs
        trials = jnp.arange(num_trials, dtype=jnp.int32)

        def solutions(trial: Array | int, job: Array) -> Array:
            """Of these jobs [M] of one trial: [M, D]."""
            population = _of_trial(populations, trial)
            members = population(jnp.minimum(job // num_episodes, size - 1))
            return jnp.where(is_test.at[job].get(mode="clip")[:, None], population.mean, members)

        def context(jobs: Array) -> Context:
            real = jobs < num_trials * num_jobs
            first = jnp.min(jobs) // num_jobs
            trial = jnp.where(real, jobs // num_jobs, jnp.minimum(first, num_trials - 1))
            job = jobs % num_jobs
            if num_trials == 1:
                found = solutions(0, job)
            else:  # jobs that begin together are mostly of one trial, whose noise is drawn at once
                found = jax.lax.fori_loop(
                    jnp.min(trial),
                    jnp.max(trial) + 1,
                    lambda t, found: jnp.where((trial == t)[:, None], solutions(t, job), found),
                    jnp.zeros((jobs.size, populations.mean.shape[-1]), populations.mean.dtype),
                )
            observations, hparams = _of_trial(problem_states, trial)
            actor = Actor(
                params=jax.vmap(unravel)(found),
                mean=observations.mean,
                deviation=deviation(observations),
                clip=hparams.observation_clip,
            )
            return Context(actor, centre=observations.mean)

        results, utilization = rollout(
            environment,
            act,
            network.initial_state,
            Jobs(
                pending=(jnp.where(is_test, TEST, TRAIN) == phases[:, None]).reshape(-1),
                keys=jax.vmap(lambda key: jax.vmap(partial(jax.random.fold_in, key))(episodes))(
                    keys
                ).reshape(-1),
                episode=(trials[:, None] * episodes.size + episode).reshape(-1),
                context=context,
            ),
            width=Width.of(lanes),
            episode_length=episode_length,
        )
        results = jax.tree.map(lambda x: x.reshape(num_trials, num_jobs, *x.shape[1:]), results)
        return jax.vmap(judge, in_axes=(0, 0, None))(problem_states, results, utilization)

    def judge(problem_state: State, results: Episode, utilization: Array) -> Evaluation:
        """What the episodes [J] of one trial come to."""
        num_train_jobs = results.length.size - num_test_episodes
        train = jax.tree.map(lambda leaf: leaf[:num_train_jobs], results)
        score = train.total_reward - problem_state.hparams.alive_bonus * train.length
        score = jnp.where(train.diverged, jnp.nan, score)
        returns = jnp.where(train.diverged, jnp.nan, train.total_reward)
        returns = returns.reshape(-1, num_episodes).mean(axis=1)
        metrics = {
            "return/mean": jnp.nanmean(returns),
            "return/max": jnp.nanmax(returns),
            "rollout/env_steps": train.length.sum(),
            "rollout/episode_length": train.length.mean(),
            "rollout/diverged": train.diverged.sum(),
            "rollout/utilization": utilization,
            "test/returns": results.total_reward[num_train_jobs:],
            "test/diverged": results.diverged[num_train_jobs:].sum(),
        }
        return Evaluation(
            fitness=score.reshape(-1, num_episodes).mean(axis=1),
            problem_state=State(merge(problem_state.observations, train), problem_state.hparams),
            metrics=metrics,
        )

    def initial_mean(key: Array) -> Array:
        return ravel_pytree(network.init(key))[0]

    return Problem(init, evaluate, initial_mean, defaults)


def _of_trial(stack: Any, trial: Array | int) -> Any:
    """The row or rows `trial` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[trial], stack)


def suitable_lanes(num_jobs: int, most: int) -> int:
    """As many lanes as a device's share of the jobs fills in equal rounds, up to eights."""
    share = -(-num_jobs // parallel.num_devices())
    rounds = -(-share // most)
    return -(-share // rounds // 8) * 8


def deviation(statistics: ObservationStatistics) -> Array:
    """The observations' standard deviation, to normalize them with; 1 while there are none."""
    number = statistics.number[..., None]
    variance = statistics.squared_deviations / jnp.maximum(number, 1)
    return jnp.sqrt(jnp.where(number > 0, jnp.maximum(variance, MIN_VARIANCE), 1))


def merge(old: ObservationStatistics, episodes: Episode) -> ObservationStatistics:
    """Adds the observations of episodes [J], whose moments are about the old mean.

    Diverged episodes are left out as a whole: before it breaks, a simulation passes through huge
    numbers. Sums run in the order of the jobs, so that they do not depend on lanes or devices.
    Equations: Chan, Golub & LeVeque, Algorithms for computing the sample variance (1983).
    """
    sound = jnp.all(jnp.isfinite(episodes.moments.second), axis=1) & ~episodes.diverged
    total = old.number + jnp.sum(episodes.length, where=sound)
    first, second = (sum_in_order(jnp.where(sound[:, None], x, 0)) for x in episodes.moments)
    # About the old mean, old deviations sum to zero: only the new ones shift it.
    shift = first / jnp.maximum(total, 1)
    return ObservationStatistics(
        number=total,
        mean=old.mean + shift,
        squared_deviations=old.squared_deviations + second - total * shift**2,
    )


def sum_in_order(x: Array) -> Array:
    """The sum over the first axis, pairwise: the same bits however it is compiled."""
    while x.shape[0] > 1:
        half = (x.shape[0] + 1) // 2
        rest = jnp.pad(x[half:], [(0, 2 * half - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
        x = x[:half] + rest
    return x[0]
