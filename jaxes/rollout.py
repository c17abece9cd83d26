"""Episodes as jobs on lanes: the engine that simulates a population, whatever the environment.

A job is one episode. A fixed number of lanes step side by side; when an episode ends, its lane
writes the result and takes the next job from the queue, until all jobs are done. So the time
follows the steps that episodes really take, and memory follows the lanes: nothing is stacked over
time, and a member's parameters exist only while one of its episodes runs. Results do not depend on
which lane ran a job.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.policies import Params, PolicyState

EnvState = Any


class Environment(NamedTuple):
    """One episode's physics, pure and for a single episode; the engine batches it.

    Attributes:
      reset: `(key) -> (env_state, observation [O])`.
      step: `(env_state, action [A]) -> (env_state, observation [O], reward [], done bool [])`.
      observation_size: O.
      action_size: A.
    """

    reset: Callable[[Array], tuple[EnvState, Array]]
    step: Callable[[EnvState, Array], tuple[EnvState, Array, Array, Array]]
    observation_size: int
    action_size: int


class Job(NamedTuple):
    """What an episode starts from: its key and the parameters that act in it."""

    key: Array
    params: Params


class Moments(NamedTuple):
    """Sums over one episode's observations x about a given centre c: Σ(x-c) and Σ(x-c)², [O]."""

    first: Array
    second: Array


class Episode(NamedTuple):
    """One episode's result, complete or so far.

    Attributes:
      total_reward: float32 [], the return.
      length: int32 [], steps.
      diverged: bool [], whether the physics left the finite numbers; the episode ended there.
      moments: sums over the observations that the policy acted on.
    """

    total_reward: Array
    length: Array
    diverged: Array
    moments: Moments


class Lanes(NamedTuple):
    """The episodes in progress; every leaf has the leading axis [L]."""

    job: Array
    active: Array
    env_state: EnvState
    observation: Array
    policy_state: PolicyState
    params: Params
    episode: Episode


class RolloutResult(NamedTuple):
    """Results of all jobs, and how well the lanes were used.

    Attributes:
      episodes: `Episode` with the leading axis [num_jobs]; zeros for jobs outside the queue.
      utilization: float32 [], the share of simulated steps that belonged to an episode.
    """

    episodes: Episode
    utilization: Array


def rollout(
    environment: Environment,
    act: Callable[[Params, PolicyState, Array], tuple[Array, PolicyState]],
    initial_policy_state: PolicyState,
    start: Callable[[Array], Job],
    queue: tuple[Array | int, Array | int],
    *,
    num_jobs: int,
    num_lanes: int,
    episode_length: int,
    segment_length: int,
    centre: Array,
) -> RolloutResult:
    """Runs the jobs `queue[0] <= job < queue[1]` to their ends.

    Args:
      environment: the physics.
      act: `(params, policy_state, observation [O]) -> (action [A], policy_state)`.
      initial_policy_state: the policy's memory at the start of an episode.
      start: `(jobs int32 [L]) -> Job` with the leading axis [L]; called on refill, never per step.
      queue: first and last + 1 of the jobs to run; may be traced.
      num_jobs: number of result slots, an upper bound on the job numbers.
      num_lanes: L, episodes that step side by side.
      episode_length: an episode ends after this many steps.
      segment_length: steps between two refills of lanes.
      centre: `[O]`, about which observation moments are taken (near their mean, for precision).
    """
    first_job, last_job = (jnp.asarray(bound, jnp.int32) for bound in queue)

    def fresh_lanes(job: Array) -> Lanes:
        keys, params = start(job)
        env_state, observation = jax.vmap(environment.reset)(keys)
        return Lanes(
            job=job,
            active=job < last_job,
            env_state=env_state,
            observation=observation,
            policy_state=jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (num_lanes, *leaf.shape)), initial_policy_state
            ),
            params=params,
            episode=_zero_episodes(num_lanes, environment.observation_size),
        )

    def step_lane(lane: Lanes) -> Lanes:
        action, policy_state = act(lane.params, lane.policy_state, lane.observation)
        env_state, observation, reward, done = environment.step(lane.env_state, action)

        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
        observed = jnp.isfinite(lane.observation)  # always, unless the reset itself diverged
        deviation = jnp.where(observed, lane.observation - centre, 0).astype(jnp.float32)
        so_far = lane.episode
        episode = Episode(
            total_reward=so_far.total_reward + jnp.where(finite, reward, 0).astype(jnp.float32),
            length=so_far.length + 1,
            diverged=~finite,
            moments=Moments(so_far.moments.first + deviation, so_far.moments.second + deviation**2),
        )
        ended = done | ~finite | (episode.length >= episode_length)
        return Lanes(
            job=lane.job,
            active=lane.active & ~ended,
            env_state=env_state,
            observation=observation,
            policy_state=policy_state,
            params=lane.params,
            # An ended lane steps on unseen until it is refilled; its result stays as it was.
            episode=jax.tree.map(partial(jnp.where, lane.active), episode, so_far),
        )

    def segment(lanes: Lanes) -> tuple[Lanes, Array]:
        def running(carry: tuple[Array, Lanes]) -> Array:
            step, lanes = carry
            return (step < segment_length) & jnp.any(lanes.active)

        def step(carry: tuple[Array, Lanes]) -> tuple[Array, Lanes]:
            return carry[0] + 1, jax.vmap(step_lane)(carry[1])

        num_steps, lanes = jax.lax.while_loop(running, step, (jnp.zeros((), jnp.int32), lanes))
        return lanes, num_steps

    def refill(lanes: Lanes, results: Episode, next_job: Array) -> tuple[Lanes, Episode, Array]:
        ended = ~lanes.active
        slot = jnp.where(ended & (lanes.job < last_job), lanes.job, num_jobs)  # num_jobs: dropped
        results = jax.tree.map(
            lambda all_jobs, lane: all_jobs.at[slot].set(lane, mode="drop"), results, lanes.episode
        )
        # The k-th ended lane takes the k-th job of the queue; where that is empty, it goes idle.
        job = jnp.minimum(next_job + jnp.cumsum(ended, dtype=jnp.int32) - 1, last_job)
        job = jnp.where(ended, job, lanes.job)

        def restart(lanes: Lanes) -> Lanes:
            return jax.tree.map(partial(_where_lane, ended), fresh_lanes(job), lanes)

        some = jnp.any(ended) & (next_job < last_job)
        lanes = jax.lax.cond(some, restart, lambda lanes: lanes, lanes)
        next_job = jnp.minimum(next_job + jnp.sum(ended, dtype=jnp.int32), last_job)
        return lanes._replace(job=job), results, next_job

    def body(carry: tuple) -> tuple:
        lanes, results, next_job, total_steps = carry
        lanes, results, next_job = refill(lanes, results, next_job)
        lanes, num_steps = segment(lanes)
        return lanes, results, next_job, total_steps + num_steps

    # All lanes begin as ended, so that the first refill is like any other (and compiled once).
    jobs = jnp.full(num_lanes, last_job)
    any_key = start(jobs).key[0]

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # an environment may keep one
            return jnp.broadcast_to(any_key, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    lanes = jax.tree.map(blank, jax.eval_shape(fresh_lanes, jobs))._replace(job=jobs)
    results = _zero_episodes(num_jobs, environment.observation_size)
    _, results, _, total_steps = jax.lax.while_loop(
        lambda carry: jnp.any(carry[0].job < last_job) | (carry[2] < last_job),
        body,
        (lanes, results, first_job, jnp.zeros((), jnp.int32)),
    )
    useful_steps = jnp.sum(results.length.astype(jnp.float32))
    return RolloutResult(results, useful_steps / jnp.maximum(total_steps * float(num_lanes), 1))


def _zero_episodes(count: int, observation_size: int) -> Episode:
    return Episode(
        total_reward=jnp.zeros(count, jnp.float32),
        length=jnp.zeros(count, jnp.int32),
        diverged=jnp.zeros(count, bool),
        moments=Moments(*(jnp.zeros((count, observation_size), jnp.float32) for _ in range(2))),
    )


def _where_lane(condition: Array, new: Array, old: Array) -> Array:
    """`where` with a condition [L] over leaves [L, ...]."""
    return jnp.where(condition.reshape(condition.shape + (1,) * (new.ndim - 1)), new, old)
