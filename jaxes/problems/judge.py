"""The judge of a policy search: the episodes of all trials, members and tasks are played."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.checks import check_count
from jaxes.core import TEST, TRAIN, Evaluation, Population
from jaxes.policies import Params, Policy, PolicyState
from jaxes.problems.numbering import Numbering, solutions
from jaxes.problems.observations import Normalizer, std
from jaxes.problems.queues import Queue
from jaxes.problems.state import State, now
from jaxes.problems.verdict import Left, Verdict
from jaxes.rollouts.episodes import Context, make_simulation, measures_of
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.rollouts.width import Width, suitable_lanes
from jaxes.trials import of_trial

QUEUES = 2**32 - 1  # of a generation's key, what queues after the first draw from: no episode's


class Actor(NamedTuple):
    """What one job acts with: the policy's parameters, and how observations are normalized."""

    params: Params
    normalizer: Normalizer | None


class Played(NamedTuple):
    """What the jobs of a queue left, each leaf [T, ...]."""

    left: Left
    lane_steps: Array


@dataclasses.dataclass(frozen=True)
class Judge:
    """The static arguments of a policy search, and what a generation of T trials does with them.

    Attributes:
      queues: one for each physics.
      verdict: what their episodes come to.
      network: the policy.
      action: what an environment's step is given for the policy's outputs.
      unravel: from a vector to its parameters.
      episode_length: steps after which an episode is cut.
      num_observations: O, without what the policy is told of its task; None where they are not
        normalized.
      spec: the network's.
      num_lanes: at most so many; None for what suits the device.
      required_lanes: exactly so many; None where that is free.
    """

    queues: tuple[Queue, ...]
    verdict: Verdict
    network: Policy
    action: Callable[[Array], Array]
    unravel: Callable[[Array], Params]
    episode_length: int
    num_observations: int | None
    spec: Mapping[str, Any] | None
    num_lanes: int | None
    required_lanes: int | None

    def evaluate(
        self, keys: Array, populations: Population, problem_states: State, phases: Array
    ) -> Evaluation:
        """What `jaxes.trials.vmapped_into_one_queue` asks for."""
        states = jax.vmap(now)(problem_states)
        played = [
            self.play(queue, _keys_of_queue(keys, i), populations, states, phases)
            for i, queue in enumerate(self.queues)
        ]
        steps = sum(jnp.sum(each.left.episodes.length.astype(jnp.float32)) for each in played)
        utilization = steps / jnp.maximum(sum(each.lane_steps for each in played), 1)
        score = jax.vmap(partial(self.verdict.score, populations.size), in_axes=(0, 0, None))
        evaluation = score(states, [each.left for each in played], utilization)
        after = evaluation.problem_state._replace(hparams=problem_states.hparams)
        return evaluation._replace(problem_state=after)

    def play(
        self, queue: Queue, keys: Array, populations: Population, states: State, phases: Array
    ) -> Played:
        """The episodes of one queue, of all trials."""
        numbering = queue.numbering(populations.size, phases.size)
        job = jnp.arange(numbering.num_trials * numbering.num_jobs, dtype=jnp.int32)
        needed = jnp.where(numbering.is_test(job), TEST, TRAIN).reshape(phases.size, -1)

        def center(actor: Actor) -> Array:
            assert actor.normalizer is not None
            return actor.normalizer.mean

        results = rollout(
            make_simulation(
                queue.physics.environment_in,
                self.act,
                self.network,
                episode_length=self.episode_length,
                measures=measures_of(queue.physics.tasks[0][1].environment),
                num_observations=self.num_observations,
                center=center if self.num_observations else None,
            ),
            Jobs(
                pending=(needed == phases[:, None]).reshape(-1),
                origins=queue.origins(keys, states.hparams),
                episode=numbering.key(job),
                context=partial(self.context, numbering, populations, states),
            ),
            Width.of(self.lanes(numbering.num_trials * numbering.num_train_jobs)),
        )
        episodes, tallies = jax.tree.map(
            lambda leaf: leaf.reshape(phases.size, -1, *leaf.shape[1:]), results[:2]
        )
        measures = jax.tree.map(lambda leaf: leaf[:, numbering.num_train_jobs :], tallies.measures)
        measures = parallel.collect_tested(measures, jnp.any(phases == TEST))
        return Played(Left(episodes, tallies.moments, measures), results.lane_steps)

    def lanes(self, num_jobs: int) -> int:
        """How many lanes a device has for so many jobs."""
        if self.required_lanes is None:
            return suitable_lanes(num_jobs, self.num_lanes)
        if len(self.queues) > 1:
            return min(self.required_lanes, num_jobs)
        why = f": there are {num_jobs} episodes a generation"
        check_count("num_lanes", self.required_lanes, maximum=num_jobs, why=why)
        return self.required_lanes

    def act(
        self, actor: Actor, policy_state: PolicyState, observation: Array
    ) -> tuple[Array, PolicyState]:
        """What the environment's step is given."""
        if actor.normalizer is not None:
            observation = actor.normalizer(observation)
        outputs, policy_state = self.network.apply(actor.params, policy_state, observation)
        return self.action(outputs), policy_state

    def policy(self, mean: Array, problem_state: State) -> Policy:
        """The policy of these parameters [D], as the problem acts with it in this state."""
        normalizer = self.normalizer(problem_state)
        return Policy(
            init=lambda key: self.unravel(mean),
            initial_state=self.network.initial_state,
            apply=lambda params, *inputs: self.act(Actor(params, normalizer), *inputs),
            normalizer=normalizer,
            spec=self.spec,
        )

    def normalizer(self, problem_state: State) -> Normalizer | None:
        observations, clip = problem_state.observations, problem_state.hparams.observation_clip
        if observations is None:
            return None
        return Normalizer(observations.mean, std(observations), clip)

    def context(
        self, numbering: Numbering, populations: Population, problem_states: State, jobs: Array
    ) -> Context:
        """What jobs [M] act with; numbers beyond the last job stand for none."""
        jobs = numbering.existing(jobs)
        trial = numbering.trial(jobs)
        vectors = solutions(numbering, populations, jobs)
        of_jobs = of_trial(problem_states, trial)
        actors = Actor(jax.vmap(self.unravel)(vectors), self.normalizer(of_jobs))
        limit = self.limit(of_jobs, numbering.is_test(jobs))
        return Context(actors, of_jobs.hparams.discount, limit)

    def limit(self, of_jobs: State, is_test: Array) -> Array | None:
        """The steps [M] after which these jobs' episodes are cut; None where all have as many."""
        cap, mean_length = of_jobs.hparams.episode_cap, of_jobs.mean_length
        if cap is None or mean_length is None:
            return None
        capped = jnp.ceil(cap * mean_length).astype(jnp.int32)
        return jnp.where(is_test, self.episode_length, jnp.minimum(capped, self.episode_length))


def _keys_of_queue(keys: Array, queue: int) -> Array:
    """Of trials [T]; the first queue's are those that a search in one environment has."""
    apart = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, QUEUES), queue))
    return apart(keys) if queue else keys
