"""Episodes as jobs on lanes: the engine that simulates a population, whatever the environment.

A job is one episode. A fixed number of lanes step side by side; when an episode ends, its lane
writes the result and takes the next job from the queue, until all jobs are done. So the time
follows the steps that episodes really take, and memory follows the lanes: nothing is stacked over
time, and a member's parameters exist only while one of its episodes runs. Results do not depend on
which lane ran a job.

When the queue is empty and few episodes are left, wide steps would be spent on empty lanes. The
last episodes are therefore moved together into blocks of few lanes, and only blocks that hold an
episode step on.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.environment import Environment, EnvState
from jaxes.lanes import Width
from jaxes.policies import PolicyState

Act = Callable[[Any, PolicyState, Array], tuple[Array, PolicyState]]


class Jobs(NamedTuple):
    """The episodes to run: job j starts from `keys[episode[j]]` and acts with its own parameters.

    Attributes:
      pending: bool `[J]`, which of the jobs 0 to J - 1 to run; may be traced.
      keys: `[K]`, the key of each episode; the environment is reset once a key, not once a job.
      episode: int32 `[J]`, which of the keys a job starts from.
      context: `(jobs int32 [M]) -> Context` with the leading axis [M], what they act with; called
        when jobs begin, never per step.
    """

    pending: Array
    keys: Array
    episode: Array
    context: Callable[[Array], "Context"]


class Context(NamedTuple):
    """What a job acts with, as long as it runs.

    Attributes:
      params: what `act` is given: a policy's parameters, and whatever else differs between jobs.
      centre: `[O]`, about which observation moments are taken (near their mean, for precision).
    """

    params: Any
    centre: Array


class Moments(NamedTuple):
    """Sums over one episode's observations x about their centre c: Σ(x-c) and Σ(x-c)², [O]."""

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


class RolloutResult(NamedTuple):
    """Results of all jobs, and how well the lanes were used.

    Attributes:
      episodes: `Episode` with the leading axis [J]; zeros for jobs that were not pending.
      utilization: float32 [], the share of simulated steps that belonged to an episode.
    """

    episodes: Episode
    utilization: Array


BLOCK_STEPS = 25  # of one block before the next one's turn


def rollout(
    environment: Environment,
    act: Act,
    initial_policy_state: PolicyState,
    jobs: Jobs,
    *,
    width: Width,
    episode_length: int,
) -> RolloutResult:
    """Runs the pending jobs to their ends, on all devices of the mesh (see `jaxes.parallel`).

    Args:
      environment: the physics.
      act: `(params, policy_state, observation [O]) -> (action [A], policy_state)`, of one job.
      initial_policy_state: the policy's memory at the start of an episode.
      jobs: the episodes.
      width: how many at once.
      episode_length: an episode ends after this many steps.
    """
    simulator = _Simulator(
        environment,
        act,
        initial_policy_state,
        jobs,
        width,
        episode_length,
        starts=_reset(environment, jobs, width.refill),
    )
    now = simulator.run_wide(simulator.begin())
    if width.tail:
        now = simulator.run_tail(now)
    results = simulator.write(now.results, now.lanes)
    # Each job was run on one device and is zero on all others: the sum is exact.
    diverged = results.diverged.astype(jnp.int32)
    episodes, lane_steps = parallel.all_sum((results._replace(diverged=diverged), now.lane_steps))
    episodes = episodes._replace(diverged=episodes.diverged > 0)
    useful_steps = jnp.sum(episodes.length.astype(jnp.float32))
    return RolloutResult(episodes, useful_steps / jnp.maximum(lane_steps, 1))


class _Lanes(NamedTuple):
    """The episodes in progress; every leaf has the leading axis [L]."""

    job: Array
    active: Array
    env_state: EnvState
    observation: Array
    policy_state: PolicyState
    context: Context
    episode: Episode


class _Progress(NamedTuple):
    """Where a device is.

    Attributes:
      lanes: the episodes in progress, or ended and not yet written down.
      results: `Episode` [J] of the jobs that ended.
      queue: int32 [J + R], this device's jobs; J after the last.
      queued: int32 [], how many there are.
      taken: int32 [], how many of them have begun.
      steps: int32 [], steps since the queues were last divided.
      lane_steps: float32 [], simulated steps of all lanes, idle ones included.
    """

    lanes: _Lanes
    results: Episode
    queue: Array
    queued: Array
    taken: Array
    steps: Array
    lane_steps: Array


@dataclasses.dataclass(frozen=True)
class _Simulator:
    """The arguments of `rollout`, what `Environment.reset` made of each key (leading axis [K]), and
    what a device does with them."""

    environment: Environment
    act: Act
    initial_policy_state: PolicyState
    jobs: Jobs
    width: Width
    episode_length: int
    starts: tuple[EnvState, Array]

    @property
    def num_jobs(self) -> int:
        """J, also the number that stands for no job."""
        return self.jobs.pending.size

    def begin(self) -> _Progress:
        """No episode has begun: all lanes are ended ones, so that any refill is like the first."""
        no_jobs = jnp.full(self.width.lanes, self.num_jobs, jnp.int32)
        lanes = _zeros(jax.eval_shape(self._start, no_jobs), self.jobs.keys[0])
        zero = jnp.zeros((), jnp.int32)
        return _Progress(
            lanes=lanes._replace(job=no_jobs),
            results=self._no_episodes(self.num_jobs),
            queue=jnp.zeros(self.num_jobs + self.width.refill, jnp.int32),
            queued=zero,
            taken=zero,
            steps=zero,
            lane_steps=jnp.zeros((), jnp.float32),
        )

    def _start(self, jobs: Array) -> _Lanes:
        """Lanes in which these jobs [M] begin."""
        episode = self.jobs.episode.at[jobs].get(mode="clip")
        env_state, observation = _take(self.starts, episode)
        return _Lanes(
            job=jobs,
            active=jobs < self.num_jobs,
            env_state=env_state,
            observation=observation,
            policy_state=jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (jobs.size, *leaf.shape)),
                self.initial_policy_state,
            ),
            context=self.jobs.context(jobs),
            episode=self._no_episodes(jobs.size),
        )

    def _no_episodes(self, count: int) -> Episode:
        sums = jnp.zeros((count, self.starts[1].shape[1]), jnp.float32)
        return Episode(
            total_reward=jnp.zeros(count, jnp.float32),
            length=jnp.zeros(count, jnp.int32),
            diverged=jnp.zeros(count, bool),
            moments=Moments(sums, sums),
        )

    def _step_lane(self, lane: _Lanes) -> _Lanes:
        params, centre = lane.context
        action, policy_state = self.act(params, lane.policy_state, lane.observation)
        env_state, observation, reward, done = self.environment.step(lane.env_state, action)

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
        ended = done | ~finite | (episode.length >= self.episode_length)
        return _Lanes(
            job=lane.job,
            active=lane.active & ~ended,
            env_state=env_state,
            observation=observation,
            policy_state=policy_state,
            context=lane.context,
            # An ended lane steps on unseen until it is refilled; its result stays as it was.
            episode=jax.tree.map(partial(jnp.where, lane.active), episode, so_far),
        )

    def _step(self, now: _Progress) -> _Progress:
        return now._replace(
            lanes=jax.vmap(self._step_lane)(now.lanes),
            steps=now.steps + 1,
            lane_steps=now.lane_steps + self.width.lanes,
        )

    def _free_lanes(self, now: _Progress) -> Array:
        return self.width.lanes - jnp.sum(now.lanes.active, dtype=jnp.int32)

    def _can_refill(self, now: _Progress) -> Array:
        waiting = now.queued - now.taken
        return (waiting > 0) & (self._free_lanes(now) >= jnp.minimum(waiting, self.width.refill))

    def _refill(self, now: _Progress) -> _Progress:
        """Writes down what the first ended lanes did, and begins the next jobs in them."""
        size = self.width.refill
        which = jnp.nonzero(~now.lanes.active, size=size, fill_value=self.width.lanes)[0]
        jobs = jax.lax.dynamic_slice_in_dim(now.queue, now.taken, size)
        return now._replace(
            lanes=_put(now.lanes, which, self._start(jobs)),
            results=self.write(now.results, self._lanes_at(now.lanes, which)),
            taken=jnp.minimum(now.taken + size, now.queued),
        )

    def write(self, results: Episode, lanes: _Lanes) -> Episode:
        return _put(results, lanes.job, lanes.episode)

    def _lanes_at(self, lanes: _Lanes, which: Array) -> _Lanes:
        """These lanes [M]; where there is no such lane, one without a job."""
        taken, real = _take(lanes, which), which < lanes.job.size
        job = jnp.where(real, taken.job, self.num_jobs)
        return taken._replace(job=job, active=taken.active & real)

    def _share(self, now: _Progress, pending: Array) -> _Progress:
        """Divides the pending jobs among the devices."""
        mine = parallel.divide(pending)
        queue = jnp.nonzero(mine, size=now.queue.size, fill_value=self.num_jobs)[0]
        return now._replace(
            queue=queue.astype(jnp.int32),
            queued=jnp.sum(mine, dtype=jnp.int32),
            taken=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
        )

    def _exceeds_lanes(self, now: _Progress) -> Array:
        """Whether any device's queue is longer than its free lanes: bool [], on all the same."""
        return parallel.all_sum((now.queued > self._free_lanes(now)).astype(jnp.int32)) > 0

    def _unbegun(self, now: _Progress) -> Array:
        """The jobs that no device has begun: bool [J], the same on all of them."""
        position = jnp.arange(now.queue.size)
        left = (position >= now.taken) & (position < now.queued)
        mine = jnp.zeros(self.num_jobs, jnp.int32).at[now.queue].add(left)
        return parallel.all_sum(mine) > 0

    def _work(self, now: _Progress, until: Array) -> _Progress:
        """Steps and refills until the next division, or until only `until` episodes are left."""

        def busy(now: _Progress) -> Array:
            active = jnp.sum(now.lanes.active, dtype=jnp.int32)
            return (now.steps < self.width.sync) & ((active > until) | (now.taken < now.queued))

        def steps(now: _Progress) -> _Progress:
            return jax.lax.while_loop(
                lambda now: busy(now) & ~self._can_refill(now), self._step, now
            )

        def refills(now: _Progress) -> _Progress:
            return jax.lax.while_loop(self._can_refill, self._refill, now)

        return jax.lax.while_loop(busy, lambda now: steps(refills(now)), now)

    def run_wide(self, now: _Progress) -> _Progress:
        """Until no job is pending and no more than the tail's episodes are left."""
        tail = self.width.tail

        def goes_on(carry: tuple[_Progress, Array]) -> Array:
            now, pending = carry
            return jnp.any(pending) | (jnp.sum(now.lanes.active) > tail)

        def body(carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
            now, pending = carry
            now = self._share(now, pending)
            # Only while something is pending, which all devices know of alike, do they meet.
            left = jax.lax.cond(jnp.any(pending), self._exceeds_lanes, lambda now: False, now)
            now = self._work(now, jnp.where(left, 0, tail))
            nothing = jnp.zeros_like(pending)
            return now, jax.lax.cond(left, self._unbegun, lambda now: nothing, now)

        return jax.lax.while_loop(goes_on, body, (now, self.jobs.pending))[0]

    def run_tail(self, now: _Progress) -> _Progress:
        """The last episodes to their ends, in blocks."""
        size = self.width.block
        results = self.write(now.results, now.lanes)
        which = jnp.nonzero(now.lanes.active, size=self.width.tail, fill_value=self.width.lanes)[0]
        lanes = self._lanes_at(now.lanes, which)

        def run_block(carry: tuple[_Lanes, Array], i: Array, most: Array) -> tuple[_Lanes, Array]:
            lanes, lane_steps = carry
            which = i * size + jnp.arange(size)
            block, steps = jax.lax.while_loop(
                lambda carry: jnp.any(carry[0].active) & (carry[1] < most),
                lambda carry: (jax.vmap(self._step_lane)(carry[0]), carry[1] + 1),
                (_take(lanes, which), jnp.zeros((), jnp.int32)),
            )
            return _put(lanes, which, block), lane_steps + steps * size

        def run_blocks(carry: tuple[_Lanes, Array]) -> tuple[_Lanes, Array]:
            lanes, lane_steps = carry
            lanes = _take(lanes, jnp.argsort(~lanes.active))  # the active ones come first
            num_blocks = -(-jnp.sum(lanes.active) // size)
            most = jnp.where(num_blocks > 1, BLOCK_STEPS, self.episode_length)
            return jax.lax.fori_loop(
                0, num_blocks, lambda i, carry: run_block(carry, i, most), (lanes, lane_steps)
            )

        lanes, lane_steps = jax.lax.while_loop(
            lambda carry: jnp.any(carry[0].active), run_blocks, (lanes, now.lane_steps)
        )
        return now._replace(lanes=lanes, results=results, lane_steps=lane_steps)


def _reset(environment: Environment, jobs: Jobs, size: int) -> tuple[EnvState, Array]:
    """The first state and observation for each key that a pending job needs, `size` at a time."""
    needed = jnp.zeros(jobs.keys.size, bool).at[jobs.episode].max(jobs.pending)
    reset = jax.vmap(environment.reset)

    def fill(i: Array, starts: tuple[EnvState, Array]) -> tuple[EnvState, Array]:
        which = i * size + jnp.arange(size)
        return jax.lax.cond(
            jnp.any(needed.at[which].get(mode="fill", fill_value=False)),
            lambda: _put(starts, which, reset(_take(jobs.keys, which))),
            lambda: starts,
        )

    starts = _zeros(jax.eval_shape(reset, jobs.keys), jobs.keys[0])
    return jax.lax.fori_loop(0, -(-jobs.keys.size // size), fill, starts)


def _zeros(shapes: Any, key: Array) -> Any:
    """Zeros of these shapes; where a leaf holds keys, this one."""

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(key, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(blank, shapes)


def _take(tree: Any, which: Array) -> Any:
    """The rows `which` [M] of every leaf; the last one where there is no such row."""
    return jax.tree.map(lambda leaf: leaf.at[which].get(mode="clip"), tree)


def _put(tree: Any, which: Array, rows: Any) -> Any:
    """Puts rows [M] at `which` [M], but for those where there is no such row."""
    return jax.tree.map(lambda leaf, new: leaf.at[which].set(new, mode="drop"), tree, rows)
