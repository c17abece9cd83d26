"""Earlier forms of what tests call, on top of what is there now."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxes import core, environments
from jaxes.policies import Policy
from jaxes.problems import observations
from jaxes.rollouts import episodes, lanes


def Context(params, center):  # noqa: N802
    """What jobs [M] act with, undiscounted."""
    return episodes.Context((params, center), jnp.ones(center.shape[0]))


class Episode(NamedTuple):
    """An outcome with its tally."""

    total_reward: Any
    length: Any
    diverged: Any
    moments: Any


class Moments(NamedTuple):
    first: Any
    second: Any


class RolloutResult(NamedTuple):
    episodes: Episode
    utilization: Any


def rollout(environment, act, initial_policy_state, jobs, *, width, episode_length):
    """`lanes.rollout` of an environment and a policy."""
    policy = Policy(init=None, initial_state=initial_policy_state, apply=None)
    num_observations = jobs.context(jnp.zeros(1, jnp.int32)).params[1].shape[1]
    simulation = episodes.make_simulation(
        lambda system: environment,
        lambda params, *inputs: act(params[0], *inputs),
        policy,
        episode_length=episode_length,
        num_observations=num_observations,
        center=lambda params: params[1],
    )
    outcomes, tallies, lane_steps = lanes.rollout(simulation, jobs, width)
    moments = tallies.moments
    moments = Moments(moments[..., 0, :], moments[..., 1, :])
    done = Episode(outcomes.total_reward, outcomes.length, outcomes.diverged, moments)
    useful_steps = jnp.sum(outcomes.length.astype(jnp.float32))
    return RolloutResult(done, useful_steps / jnp.maximum(lane_steps, 1))


def merge(statistics, done):
    """`observations.merge` of outcomes with their tallies."""
    return observations.merge(statistics, done, jnp.stack(done.moments, axis=-2))


def make_update_step(strategy, problem):
    """`core.make_generation` with the tests among the metrics."""
    generation = core.make_generation(strategy, problem)

    def step(key, state, phase=core.TRAIN):
        state, metrics, tests = generation(key, state, phase)
        return state, metrics | {"test/returns": tests.returns}

    return step


def gymnax_environment(name):
    """`environments.gymnax`, which takes a policy's outputs for discrete actions as well."""
    environment = environments.gymnax(name)
    return environment._replace(
        step=lambda state, outputs: environment.step(state, environment.action(outputs)),
        action_size=environment.num_outputs,
        num_actions=None,
    )
