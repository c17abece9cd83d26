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

from jaxes import parallel
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
      episodes: `Episode` with the leading axis [J]; zeros for jobs that were not pending.
      utilization: float32 [], the share of simulated steps that belonged to an episode.
    """

    episodes: Episode
    utilization: Array


class Progress(NamedTuple):
    """Where a device's loop is.

    Attributes:
      lanes: the episodes in progress, or ended and not yet written down.
      results: `Episode` [J] of those that were.
      queue: int32 [J + R], this device's jobs; J after the last.
      queued: int32 [], how many there are.
      taken: int32 [], how many of them have begun.
      steps: int32 [], steps since the queues were last divided.
      lane_steps: float32 [], simulated steps of all lanes, idle ones included.
    """

    lanes: Lanes
    results: Episode
    queue: Array
    queued: Array
    taken: Array
    steps: Array
    lane_steps: Array


class Width(NamedTuple):
    """How many episodes a device handles at once.

    Attributes:
      lanes: episodes that step side by side.
      tail: those at the end, when the queue is empty and no more than these are left.
      refill: episodes that begin at once; lanes wait until so many have ended.
      sync: steps between two divisions of the pending jobs among the devices.
    """

    lanes: int
    tail: int
    refill: int
    sync: int = 100

    @classmethod
    def of(cls, lanes: int) -> "Width":
        """What was measured to suit that many lanes."""
        return cls(lanes, tail=lanes // 8 if lanes >= 64 else 0, refill=-(-lanes // 8))


def rollout(
    environment: Environment,
    act: Callable[[Params, PolicyState, Array], tuple[Array, PolicyState]],
    initial_policy_state: PolicyState,
    start: Callable[[Array], Job],
    pending: Array,
    *,
    width: Width,
    episode_length: int,
    centre: Array,
) -> RolloutResult:
    """Runs the pending jobs to their ends, on all devices of the mesh (see `jaxes.parallel`).

    Args:
      environment: the physics.
      act: `(params, policy_state, observation [O]) -> (action [A], policy_state)`.
      initial_policy_state: the policy's memory at the start of an episode.
      start: `(jobs int32 [M]) -> Job` with the leading axis [M]; called on refill, never per step.
      pending: bool `[J]`, which of the jobs 0 to J - 1 to run; may be traced.
      width: how many at once.
      episode_length: an episode ends after this many steps.
      centre: `[O]`, about which observation moments are taken (near their mean, for precision).
    """
    num_jobs = pending.size  # also the number that stands for no job
    num_lanes, num_tail, num_refill = width.lanes, width.tail, min(width.refill, width.lanes)

    def begin(jobs: Array) -> Lanes:
        keys, params = start(jobs)
        env_state, observation = jax.vmap(environment.reset)(keys)
        return Lanes(
            job=jobs,
            active=jobs < num_jobs,
            env_state=env_state,
            observation=observation,
            policy_state=jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (jobs.size, *leaf.shape)), initial_policy_state
            ),
            params=params,
            episode=_zero_episodes(jobs.size, environment.observation_size),
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

    def step(now: Progress) -> Progress:
        return now._replace(
            lanes=jax.vmap(step_lane)(now.lanes),
            steps=now.steps + 1,
            lane_steps=now.lane_steps + now.lanes.job.size,
        )

    def free_lanes(now: Progress) -> Array:
        return num_lanes - jnp.sum(now.lanes.active, dtype=jnp.int32)

    def can_refill(now: Progress) -> Array:
        waiting = now.queued - now.taken
        return (waiting > 0) & (free_lanes(now) >= jnp.minimum(waiting, num_refill))

    def refill(now: Progress) -> Progress:
        """Writes down what the first ended lanes did, and begins the next jobs in them."""
        ended = ~now.lanes.active
        results = write(now.results, first_lanes(now.lanes, ended, num_refill))
        jobs = jax.lax.dynamic_slice_in_dim(now.queue, now.taken, num_refill)
        new, position = begin(jobs), jnp.cumsum(ended, dtype=jnp.int32) - 1
        lanes = jax.tree.map(
            lambda new, old: _where_lane(
                ended & (position < num_refill), new[jnp.minimum(position, num_refill - 1)], old
            ),
            new,
            now.lanes,
        )
        taken = jnp.minimum(now.taken + num_refill, now.queued)
        return now._replace(lanes=lanes, results=results, taken=taken)

    def write(results: Episode, lanes: Lanes) -> Episode:
        return jax.tree.map(
            lambda all_jobs, lane: all_jobs.at[lanes.job].set(lane, mode="drop"),
            results,
            lanes.episode,
        )

    def first_lanes(lanes: Lanes, chosen: Array, count: int) -> Lanes:
        """The first `count` of the chosen lanes; where there are fewer, lanes without a job."""
        which = jnp.nonzero(chosen, size=count, fill_value=num_lanes)[0]
        lanes = jax.tree.map(lambda leaf: leaf.at[which].get(mode="clip"), lanes)
        return lanes._replace(
            job=jnp.where(which < num_lanes, lanes.job, num_jobs),
            active=lanes.active & (which < num_lanes),
        )

    def share(now: Progress, pending: Array) -> Progress:
        """Divides the pending jobs among the devices."""
        mine = parallel.divide(pending)
        queue = jnp.nonzero(mine, size=num_jobs + num_refill, fill_value=num_jobs)[0]
        return now._replace(
            queue=queue.astype(jnp.int32),
            queued=jnp.sum(mine, dtype=jnp.int32),
            taken=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
        )

    def exceeds_lanes(now: Progress) -> Array:
        """Whether any device's queue is longer than its free lanes: bool [], on all the same."""
        return parallel.all_sum((now.queued > free_lanes(now)).astype(jnp.int32)) > 0

    def unbegun(now: Progress) -> Array:
        """The jobs that no device has begun: bool [J], the same on all of them."""
        position = jnp.arange(now.queue.size)
        left = (position >= now.taken) & (position < now.queued)
        return parallel.all_sum(jnp.zeros(num_jobs, jnp.int32).at[now.queue].add(left)) > 0

    def work(now: Progress, until: Array) -> Progress:
        """Steps and refills until the next division, or until only `until` episodes are left."""

        def busy(now: Progress) -> Array:
            active = jnp.sum(now.lanes.active, dtype=jnp.int32)
            return (now.steps < width.sync) & ((active > until) | (now.taken < now.queued))

        def steps(now: Progress) -> Progress:
            return jax.lax.while_loop(lambda now: busy(now) & ~can_refill(now), step, now)

        def refills(now: Progress) -> Progress:
            return jax.lax.while_loop(can_refill, refill, now)

        return jax.lax.while_loop(busy, lambda now: steps(refills(now)), now)

    def run_wide(now: Progress, pending: Array) -> Progress:
        def goes_on(carry: tuple[Progress, Array]) -> Array:
            now, pending = carry
            return jnp.any(pending) | (jnp.sum(now.lanes.active) > num_tail)

        def body(carry: tuple[Progress, Array]) -> tuple[Progress, Array]:
            now, pending = carry
            now = share(now, pending)
            # Only while something is pending, which all devices know of alike, do they meet.
            left = jax.lax.cond(jnp.any(pending), exceeds_lanes, lambda now: False, now)
            now = work(now, jnp.where(left, 0, num_tail))
            return now, jax.lax.cond(left, unbegun, lambda now: jnp.zeros_like(pending), now)

        return jax.lax.while_loop(goes_on, body, (now, pending))[0]

    def run_tail(now: Progress) -> Progress:
        """The last episodes, in fewer lanes."""
        last = first_lanes(now.lanes, now.lanes.active, num_tail)
        now = now._replace(lanes=last, results=write(now.results, now.lanes))
        now = jax.lax.while_loop(lambda now: jnp.any(now.lanes.active), step, now)
        return now._replace(results=write(now.results, now.lanes))

    # All lanes begin as ended, so that the first refill is like any other (and compiled once).
    no_jobs = jnp.full(num_lanes, num_jobs, jnp.int32)
    any_key = start(no_jobs[:1]).key[0]

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):  # an environment may keep one
            return jnp.broadcast_to(any_key, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    now = Progress(
        lanes=jax.tree.map(blank, jax.eval_shape(begin, no_jobs))._replace(job=no_jobs),
        results=_zero_episodes(num_jobs, environment.observation_size),
        queue=jnp.zeros(num_jobs + num_refill, jnp.int32),
        queued=jnp.zeros((), jnp.int32),
        taken=jnp.zeros((), jnp.int32),
        steps=jnp.zeros((), jnp.int32),
        lane_steps=jnp.zeros((), jnp.float32),
    )
    now = run_wide(now, pending)
    now = run_tail(now) if num_tail else now._replace(results=write(now.results, now.lanes))
    # Each job was run on one device and is zero on all others: the sum is exact.
    diverged = now.results.diverged.astype(jnp.int32)
    episodes, lane_steps = parallel.all_sum(
        (now.results._replace(diverged=diverged), now.lane_steps)
    )
    episodes = episodes._replace(diverged=episodes.diverged > 0)
    useful_steps = jnp.sum(episodes.length.astype(jnp.float32))
    return RolloutResult(episodes, useful_steps / jnp.maximum(lane_steps, 1))


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
