"""Jobs on lanes: the engine that runs a population, whatever is simulated.

A fixed number of lanes step side by side; when a job ends, its lane writes down what it leaves and
takes the next one from the queue, until all are done: what inference servers call continuous
batching, with the lanes in the place of a vectorized environment's `num_envs`. So the time follows
the steps that jobs really take, and memory follows the lanes: nothing is stacked over time, and a
member's parameters exist only while one of its jobs runs. On each device:

    pending = jobs.pending
    while any(pending) or more lanes are busy than the tail takes:
        queue = my share of pending                         # dealt out like cards
        for at most `sync` steps, while lanes are busy or the queue holds a job:
            while jobs wait and lanes enough have ended:    # `refill` of them
                written[lane.job] = lane.outcome, lane.tally
                lane = begin(queue.pop())
            lanes = step(lanes)
        pending = what nobody has begun                     # to be dealt out anew
    run the last lanes in small blocks                      # `jaxes.rollouts.tail`
    return the outcomes of all devices and the tallies of this one

A job is written by the one lane that ran it, once that lane has done with it. It is zero everywhere
else, so that the sum of outcomes over devices is exact. Tallies stay on the device where their job
ran, for whoever adds them up. Devices meet only while something is pending, which all of them know
of alike, and then tell each other what nobody has begun. So the results depend neither on the lanes
nor on the devices.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.checks import is_key
from jaxes.rollouts.tail import run_blocks
from jaxes.rollouts.width import Width

Origin = Any  # what a job starts from, a pytree with a key
Context = Any  # what a job acts with as long as it runs, a pytree
State = Any  # what a lane holds of the job that runs in it, a pytree
Outcome = Any
Tally = Any


class Simulation(NamedTuple):
    """What the lanes run; they look into none of these trees.

    Attributes:
      start: `(origins [M]) -> states [M]`, called once an origin, not once a job.
      step: `(contexts [L], states [L], outcomes [L], tallies [L]) -> (states [L], outcomes [L],
        tallies [L], ended bool [L])`, one step of all lanes. Lanes without a job step as well;
        what they leave is not looked at.
      outcome: what a job leaves before its first step, zeros; kept of each job.
      tally: what else is noted of a job, zeros; `()` for nothing. It stays on the device that ran
        the job; `jaxes.parallel.exact_sum` adds it up, `collect_tested` gathers some of it.
      axis: along which contexts and states are those of [M] or [L], the first or the last, -1.
    """

    start: Callable[[Origin], State]
    step: Callable[[Context, State, Outcome, Tally], tuple[State, Outcome, Tally, Array]]
    outcome: Outcome
    tally: Tally
    axis: int = 0


class Jobs(NamedTuple):
    """What to run: job j starts from origin `episode[j]` and acts with a context of its own.

    Attributes:
      pending: bool `[J]`, which of the jobs 0 to J - 1 to run; may be traced.
      origins: `[K]`, what each episode starts from: its key, or a tree with it.
      episode: int32 `[J]`, which of the origins a job starts from: jobs may share one.
      context: `(jobs int32 [M]) -> contexts [M]`, called when jobs begin, never per step; a number
        from J on stands for no job.
    """

    pending: Array
    origins: Origin
    episode: Array
    context: Callable[[Array], Context]


class RolloutResult(NamedTuple):
    """What all jobs left.

    Attributes:
      outcomes: `[J]`, zeros for jobs that were not pending.
      tallies: `[J]` of the jobs that this device ran, zeros for all others.
      lane_steps: float32 [], steps of all lanes on all devices, those without a job included.
    """

    outcomes: Outcome
    tallies: Tally
    lane_steps: Array


def rollout(simulation: Simulation, jobs: Jobs, width: Width) -> RolloutResult:
    """Runs the pending jobs to their ends, on all devices of the mesh (see `jaxes.parallel`)."""
    everyone = jobs.pending
    jobs = jobs._replace(pending=parallel.share_of_host(everyone))
    starts = _start_all(simulation, jobs, width.refill)
    scheduler = _Scheduler(simulation, jobs, width, starts)
    progress = scheduler.run_wide(scheduler.begin())
    if width.tail:
        progress = scheduler.run_tail(progress)
    outcomes, tallies = scheduler.write(progress.written, progress.lanes)
    lane_steps = parallel.all_sum(progress.lane_steps)
    return RolloutResult(parallel.collect(outcomes, everyone), tallies, lane_steps)


class _Lanes(NamedTuple):
    """The jobs in progress; every leaf has the axis [L], the first but for `Simulation.axis`."""

    job: Array
    active: Array
    context: Context
    state: State
    outcome: Outcome
    tally: Tally


class _Progress(NamedTuple):
    """Where a device is.

    Attributes:
      lanes: the jobs in progress, or ended and not yet written down.
      written: outcomes and tallies [J] of the jobs that ended.
      queue: int32 [J + R], this device's jobs; J after the last.
      queued: int32 [], how many there are.
      taken: int32 [], how many of them have begun.
      steps: int32 [], steps since the queues were last divided.
      lane_steps: float32 [], steps of all lanes, those without a job included.
    """

    lanes: _Lanes
    written: tuple[Outcome, Tally]
    queue: Array
    queued: Array
    taken: Array
    steps: Array
    lane_steps: Array


@dataclasses.dataclass(frozen=True)
class _Scheduler:
    """The arguments of `rollout`, the states [K] that the origins start from, and what a device
    does with them."""

    simulation: Simulation
    jobs: Jobs
    width: Width
    starts: State

    @property
    def num_jobs(self) -> int:
        """J, also the number that stands for no job."""
        return self.jobs.pending.size

    def begin(self) -> _Progress:
        """No job has begun: all lanes are ended ones, so that any refill is like the first."""
        no_jobs = jnp.full(self.width.lanes, self.num_jobs, jnp.int32)
        lanes = _zeros(jax.eval_shape(self._begin_jobs, no_jobs), self.jobs.origins)
        zero = jnp.zeros((), jnp.int32)
        return _Progress(
            lanes=lanes._replace(job=no_jobs),
            written=self._nothing_done(self.num_jobs),
            queue=jnp.zeros(self.num_jobs + self.width.refill, jnp.int32),
            queued=zero,
            taken=zero,
            steps=zero,
            lane_steps=jnp.zeros((), jnp.float32),
        )

    def _begin_jobs(self, jobs: Array) -> _Lanes:
        """Lanes in which these jobs [M] begin."""
        outcome, tally = self._nothing_done(jobs.size)
        return _Lanes(
            job=jobs,
            active=jobs < self.num_jobs,
            context=self.jobs.context(jobs),
            state=take(
                self.starts, self.jobs.episode.at[jobs].get(mode="clip"), self.simulation.axis
            ),
            outcome=outcome,
            tally=tally,
        )

    def _nothing_done(self, count: int) -> tuple[Outcome, Tally]:
        """Outcomes and tallies [count] before the first step."""
        zeros = (self.simulation.outcome, self.simulation.tally)
        return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), zeros)

    def _step_lanes(self, lanes: _Lanes) -> _Lanes:
        state, *done, ended = self.simulation.step(
            lanes.context, lanes.state, lanes.outcome, lanes.tally
        )
        # An ended lane steps on unseen until it is refilled; what it left stays as it was.
        before = (lanes.outcome, lanes.tally)
        outcome, tally = jax.vmap(_where)(lanes.active, tuple(done), before)
        return lanes._replace(
            active=lanes.active & ~ended, state=state, outcome=outcome, tally=tally
        )

    def _step(self, progress: _Progress) -> _Progress:
        return progress._replace(
            lanes=self._step_lanes(progress.lanes),
            steps=progress.steps + 1,
            lane_steps=progress.lane_steps + self.width.lanes,
        )

    def _free_lanes(self, progress: _Progress) -> Array:
        return self.width.lanes - jnp.sum(progress.lanes.active, dtype=jnp.int32)

    def _can_refill(self, progress: _Progress) -> Array:
        waiting = progress.queued - progress.taken
        enough = self._free_lanes(progress) >= jnp.minimum(waiting, self.width.refill)
        return (waiting > 0) & enough

    def _refill(self, progress: _Progress) -> _Progress:
        """Writes down what the first ended lanes did, and begins the next jobs in them."""
        size, lanes = self.width.refill, progress.lanes
        which = jnp.nonzero(~lanes.active, size=size, fill_value=self.width.lanes)[0]
        jobs = jax.lax.dynamic_slice_in_dim(progress.queue, progress.taken, size)
        return progress._replace(
            lanes=self._put(lanes, which, self._begin_jobs(jobs)),
            written=self.write(progress.written, self._lanes_at(lanes, which)),
            taken=jnp.minimum(progress.taken + size, progress.queued),
        )

    def write(self, written: tuple[Outcome, Tally], lanes: _Lanes) -> tuple[Outcome, Tally]:
        return put(written, lanes.job, (lanes.outcome, lanes.tally))

    def _take(self, lanes: _Lanes, which: Array) -> _Lanes:
        axes = self._axes()
        return _Lanes(*(take(leaf, which, axis) for leaf, axis in zip(lanes, axes, strict=True)))

    def _put(self, lanes: _Lanes, which: Array, rows: _Lanes) -> _Lanes:
        fields = zip(lanes, rows, self._axes(), strict=True)
        return _Lanes(*(put(leaf, which, new, axis) for leaf, new, axis in fields))

    def _axes(self) -> tuple[int, ...]:
        """Of each field of the lanes, the axis along which they lie."""
        own = self.simulation.axis
        return tuple(own if name in ("context", "state") else 0 for name in _Lanes._fields)

    def _lanes_at(self, lanes: _Lanes, which: Array) -> _Lanes:
        """These lanes [M]; where there is no such lane, one without a job."""
        taken, real = self._take(lanes, which), which < lanes.job.size
        job = jnp.where(real, taken.job, self.num_jobs)
        return taken._replace(job=job, active=taken.active & real)

    def _share(self, progress: _Progress, pending: Array) -> _Progress:
        """Divides the pending jobs among the devices of this host."""
        mine = parallel.divide(pending)
        queue = jnp.nonzero(mine, size=progress.queue.size, fill_value=self.num_jobs)[0]
        return progress._replace(
            queue=queue.astype(jnp.int32),
            queued=jnp.sum(mine, dtype=jnp.int32),
            taken=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
        )

    def _exceeds_lanes(self, progress: _Progress) -> Array:
        """Whether any queue of a device of this host is longer than its free lanes: bool [], on all
        of them the same."""
        mine = progress.queued > self._free_lanes(progress)
        return parallel.host_sum(mine.astype(jnp.int32)) > 0

    def _unbegun(self, progress: _Progress) -> Array:
        """The host's jobs that no device has begun: bool [J], the same on all of its devices."""
        position = jnp.arange(progress.queue.size)
        left = (position >= progress.taken) & (position < progress.queued)
        mine = jnp.zeros(self.num_jobs, jnp.int32).at[progress.queue].add(left.astype(jnp.int32))
        return parallel.host_sum(mine) > 0

    def _work(self, progress: _Progress, until: Array) -> _Progress:
        """Steps and refills until the next division, or until only `until` jobs are left."""

        def busy(progress: _Progress) -> Array:
            active = jnp.sum(progress.lanes.active, dtype=jnp.int32)
            left = (active > until) | (progress.taken < progress.queued)
            return (progress.steps < self.width.sync) & left

        def can_step(progress: _Progress) -> Array:
            return busy(progress) & ~self._can_refill(progress)

        def refill_and_step(progress: _Progress) -> _Progress:
            progress = jax.lax.while_loop(self._can_refill, self._refill, progress)
            return jax.lax.while_loop(can_step, self._step, progress)

        return jax.lax.while_loop(busy, refill_and_step, progress)

    def run_wide(self, progress: _Progress) -> _Progress:
        """Until no job is pending and no more than the tail's are left."""
        tail = self.width.tail

        def keep_going(carry: tuple[_Progress, Array]) -> Array:
            progress, pending = carry
            return jnp.any(pending) | (jnp.sum(progress.lanes.active) > tail)

        def body(carry: tuple[_Progress, Array]) -> tuple[_Progress, Array]:
            progress, pending = carry
            progress = self._share(progress, pending)
            left = jax.lax.cond(
                jnp.any(pending), self._exceeds_lanes, lambda progress: False, progress
            )
            progress = self._work(progress, jnp.where(left, 0, tail))
            nothing = jnp.zeros_like(pending)
            return progress, jax.lax.cond(left, self._unbegun, lambda progress: nothing, progress)

        return jax.lax.while_loop(keep_going, body, (progress, self.jobs.pending))[0]

    def run_tail(self, progress: _Progress) -> _Progress:
        """The last jobs to their ends, in blocks."""
        lanes = progress.lanes
        written = self.write(progress.written, lanes)
        which = jnp.nonzero(lanes.active, size=self.width.tail, fill_value=self.width.lanes)[0]
        last, lane_steps = run_blocks(
            self._step_lanes,
            self._lanes_at(lanes, which),
            self.width.block,
            progress.lane_steps,
            self._take,
            self._put,
        )
        return progress._replace(lanes=last, written=written, lane_steps=lane_steps)


def _start_all(simulation: Simulation, jobs: Jobs, size: int) -> State:
    """The first state for each origin [K] that a pending job needs, `size` at a time."""
    count = jax.tree.leaves(jobs.origins)[0].shape[0]
    needed = jnp.zeros(count, bool).at[jobs.episode].max(jobs.pending)

    def fill(i: Array, starts: State) -> State:
        which = i * size + jnp.arange(size)
        return jax.lax.cond(
            jnp.any(needed.at[which].get(mode="fill", fill_value=False)),
            lambda: put(
                starts, which, simulation.start(take(jobs.origins, which)), simulation.axis
            ),
            lambda: starts,
        )

    starts = _zeros(jax.eval_shape(simulation.start, jobs.origins), jobs.origins)
    return jax.lax.fori_loop(0, -(-count // size), fill, starts)


def take(tree: Any, which: Array, axis: int = 0) -> Any:
    """The rows `which` [M] of every leaf, along the first or last axis; the last one where there is
    no such row."""
    return jax.tree.map(lambda leaf: _at(leaf, which, axis).get(mode="clip"), tree)


def put(tree: Any, which: Array, rows: Any, axis: int = 0) -> Any:
    """Puts rows [M] at `which` [M], but for those where there is no such row."""
    return jax.tree.map(lambda leaf, new: _at(leaf, which, axis).set(new, mode="drop"), tree, rows)


def _at(leaf: Array, which: Array, axis: int) -> Any:
    return leaf.at[..., which] if axis else leaf.at[which]


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(partial(jnp.where, condition), new, old)


def _zeros(shapes: Any, origins: Origin) -> Any:
    """Zeros of these shapes; where a leaf holds keys, the first of the origins'."""

    def blank(leaf: jax.ShapeDtypeStruct) -> Array:
        if is_key(leaf):
            key = next(filter(is_key, jax.tree.leaves(origins)))[0]
            return jnp.broadcast_to(key, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(blank, shapes)
