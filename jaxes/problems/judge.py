"""The judge of a policy search: episodes of all trials, members and tasks become fitness."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import hparams as numbers
from jaxes.checks import check_count
from jaxes.core import TEST, TRAIN, Evaluation, Population, Tests
from jaxes.policies import Params, Policy, PolicyState
from jaxes.problems.aggregates import Aggregate
from jaxes.problems.numbering import Numbering, solutions
from jaxes.problems.observations import Normalizer, ObservationStatistics, merge, std
from jaxes.problems.tasks import Kind, Physics, Task
from jaxes.rollouts.episodes import Context, Episode, Origin, make_simulation, measures_of
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.rollouts.width import Width, suitable_lanes
from jaxes.trials import of_trial

QUEUES = 2**32 - 1  # of a generation's key, what queues after the first draw from: no episode's


class HParams(NamedTuple):
    alive_penalty: Array | float  # a step
    observation_clip: Array | float  # > 0, in standard deviations
    discount: Array | float  # γ in (0, 1]
    episode_cap: Array | float | None = None  # at least 1, in mean lengths; None for no cap
    randomize: Any = None  # ranges by name, of a search in one randomized environment
    tasks: Any = None  # of a search over several, by task: {"randomize": ranges by name}
    weights: Any = None  # at least 0, by task


class State(NamedTuple):
    observations: ObservationStatistics | None  # None where they are not normalized
    hparams: HParams
    mean_length: Array | None = None  # [], of the last generation's episodes, where they are capped
    generation: Array | None = None  # int32 [], where a number follows a ramp


class Actor(NamedTuple):
    """What one job acts with: the policy's parameters, and how observations are normalized."""

    params: Params
    normalizer: Normalizer | None


class Block(NamedTuple):
    """Episodes of a trial's queue that stand together: of one task, and one kind of systems."""

    place: int
    task: Task
    kind: Kind
    num_episodes: int

    @property
    def name(self) -> str:
        """Of tests of these."""
        if not self.task.name:
            return self.kind
        return self.task.name if self.kind == "base" else f"{self.task.name}/{self.kind}"


class Played(NamedTuple):
    """What the jobs of a queue left, `[T, J]`."""

    episodes: Episode
    moments: Any
    lane_steps: Array


@dataclasses.dataclass(frozen=True)
class Judge:
    """The static arguments of a policy search, and what a generation of T trials does with them.

    Attributes:
      queues: a queue a physics.
      network: the policy.
      action: what an environment's step is given for the policy's outputs.
      unravel: from a vector to its parameters.
      episode_length: steps after which an episode is cut.
      num_test_episodes: of each test.
      num_observations: O, without what the policy is told of its task; None where they are not
        normalized.
      aggregate: what a member's episodes come to; None for the mean of one task's.
      spec: the network's.
      num_lanes: at most so many; None for what suits the device.
      required_lanes: exactly so many; None where that is free.
    """

    queues: tuple[Physics, ...]
    network: Policy
    action: Callable[[Array], Array]
    unravel: Callable[[Array], Params]
    episode_length: int
    num_test_episodes: int
    num_observations: int | None
    aggregate: Aggregate | None
    spec: Mapping[str, Any] | None
    num_lanes: int | None
    required_lanes: int | None

    def evaluate(
        self, keys: Array, populations: Population, problem_states: State, phases: Array
    ) -> Evaluation:
        """What `jaxes.trials.vmapped_into_one_queue` asks for."""
        states = jax.vmap(_now)(problem_states)
        played = [
            self.play(queue, _keys_of_queue(keys, i), populations, states, phases)
            for i, queue in enumerate(self.queues)
        ]
        steps = sum(jnp.sum(each.episodes.length.astype(jnp.float32)) for each in played)
        utilization = steps / jnp.maximum(sum(each.lane_steps for each in played), 1)
        score = jax.vmap(self.score, in_axes=(0, 0, 0, None))
        left = [(each.episodes, each.moments) for each in played]
        evaluation = score(populations, states, left, utilization)
        after = evaluation.problem_state._replace(hparams=problem_states.hparams)
        return evaluation._replace(problem_state=after)

    def play(
        self, queue: Physics, keys: Array, populations: Population, states: State, phases: Array
    ) -> Played:
        """The episodes of one queue, of all trials."""
        numbering = self.numbering(queue, populations, phases.size)
        job = jnp.arange(numbering.num_trials * numbering.num_jobs, dtype=jnp.int32)
        needed = jnp.where(numbering.is_test(job), TEST, TRAIN).reshape(phases.size, -1)

        def center(actor: Actor) -> Array:
            assert actor.normalizer is not None
            return actor.normalizer.mean

        results = rollout(
            make_simulation(
                queue.environment_in,
                self.act,
                self.network,
                episode_length=self.episode_length,
                measures=measures_of(queue.tasks[0][1].environment),
                num_observations=self.num_observations,
                center=center if self.num_observations else None,
            ),
            Jobs(
                pending=(needed == phases[:, None]).reshape(-1),
                origins=self.origins(queue, numbering.num_keys, keys, states.hparams),
                episode=numbering.key(job),
                context=partial(self.context, numbering, populations, states),
            ),
            Width.of(self.lanes(numbering.num_trials * numbering.num_train_jobs)),
        )
        outcomes, tallies = jax.tree.map(
            lambda leaf: leaf.reshape(phases.size, -1, *leaf.shape[1:]), results[:2]
        )
        return Played(outcomes, tallies, results.lane_steps)

    def origins(self, queue: Physics, num_keys: int, keys: Array, hparams: HParams) -> Origin:
        """Of the episodes of trials whose keys and numbers these are, trial by trial."""
        episodes = jnp.arange(num_keys, dtype=jnp.int32)

        def of_one_trial(key: Array, hparams: HParams) -> Origin:
            keys = jax.vmap(partial(jax.random.fold_in, key))(episodes)
            systems, begin = [], 0
            for block in (block for some in self.blocks(queue) for block in some):
                own = keys[begin : begin + block.num_episodes]
                begin += block.num_episodes
                ranges = ranges_of(hparams, block.task)
                draw = partial(queue.draw, block.kind, block.place, block.task, ranges)
                systems.append(jax.vmap(draw)(own))
            return Origin(keys, jax.tree.map(lambda *parts: jnp.concatenate(parts), *systems))

        return jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.vmap(of_one_trial)(keys, hparams)
        )

    def blocks(self, queue: Physics) -> tuple[list[Block], list[Block]]:
        """Those of training, and those of tests, in the order of the queue's episodes."""
        train = [
            Block(place, task, "randomized" if task.environment.randomize else "base", count)
            for place, task in queue.tasks
            if (count := task.num_episodes)
        ]
        test = [
            Block(place, task, kind, self.num_test_episodes)
            for place, task in queue.tasks
            for kind in task.kinds
        ]
        return train, test

    def numbering(self, queue: Physics, population: Population, num_trials: int = 1) -> Numbering:
        train, test = (sum(block.num_episodes for block in some) for some in self.blocks(queue))
        return Numbering(population.size, train, test, num_trials)

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

    def score(
        self,
        population: Population,
        state: State,
        played: list[tuple[Episode, Any]],
        utilization: Array,
    ) -> Evaluation:
        """What the episodes of one trial come to, of each queue [J], with their moments."""
        train, moments = self.table(population, played)
        steps, length = train.length.sum(), train.length.astype(train.discounted_return.dtype)
        fitness = train.discounted_return - state.hparams.alive_penalty * length
        fitness = jnp.where(train.diverged, jnp.nan, fitness)
        return Evaluation(
            fitness=self.fitness(fitness, state.hparams),
            problem_state=_after(state, jax.tree.map(_flat, train), _flat(moments)),
            metrics={
                **self.returns(jnp.where(train.diverged, jnp.nan, train.total_reward)),
                "rollout/env_steps": steps,
                "rollout/episode_length": _flat(train.length).mean(),
                "rollout/diverged": train.diverged.sum(),
                "rollout/truncated": train.truncated.sum(),
                "rollout/utilization": utilization,
            },
            tests=self.tests(population, played),
        )

    def table(
        self, population: Population, played: list[tuple[Episode, Any]]
    ) -> tuple[Episode, Any]:
        """The episodes of training and their moments, `[N, E]`: a column for each that members
        play, all queues' side by side."""

        def of_queue(queue: Physics, episodes: Episode, moments: Any) -> Any:
            numbering = self.numbering(queue, population)
            size, count = (population.size, numbering.num_episodes), numbering.num_train_jobs
            # Queues have measures of their own, which tests alone are asked for.
            of_training = episodes._replace(measures={}), moments
            return jax.tree.map(lambda x: x[:count].reshape(*size, *x.shape[1:]), of_training)

        tables = [
            of_queue(*each) for each in zip(self.queues, *zip(*played, strict=True), strict=True)
        ]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *tables)

    def tests(
        self, population: Population, played: list[tuple[Episode, Any]]
    ) -> Tests | dict[str, Tests]:
        """By the names of their blocks; of one task in its base system alone, as they are."""
        found = {}
        for queue, (episodes, _) in zip(self.queues, played, strict=True):
            begin = self.numbering(queue, population).num_train_jobs
            for block in self.blocks(queue)[1]:
                end = begin + block.num_episodes
                part = jax.tree.map(partial(_between, begin, end), episodes)
                found[block.name] = Tests(
                    part.total_reward, part.length, part.diverged, part.truncated, part.measures
                )
                begin = end
        return found["base"] if list(found) == ["base"] else found

    def fitness(self, values: Array, hparams: HParams) -> Array:
        """What members [N] come to by their episodes' values [N, E]."""
        if self.aggregate is None:
            return values.mean(axis=1)
        counts = jnp.array([task.num_episodes for task in self.columns], jnp.float32)
        weights = 1 / counts
        if hparams.weights is not None:
            weights *= jnp.stack([hparams.weights[task.name] for task in self.columns])
        return self.aggregate(values, weights / weights.sum())

    def returns(self, values: Array) -> dict[str, Array]:
        """What is told of returns [N, E], NaN where an episode diverged."""
        of_members = values.mean(axis=1)
        told = {"return/mean": jnp.nanmean(of_members), "return/max": jnp.nanmax(of_members)}
        places: dict[str, list[int]] = {}
        for place, task in enumerate(self.columns):
            places.setdefault(task.name, []).append(place)
        if len(places) == 1:
            return told
        by_task = {name: jnp.nanmean(values[:, own]) for name, own in places.items()}
        told |= {f"return/{name}": value for name, value in by_task.items()}
        least, most = (pick(jnp.stack([*by_task.values()])) for pick in (jnp.min, jnp.max))
        return told | {"return/worst_task": least, "return/task_spread": most - least}

    @property
    def columns(self) -> list[Task]:
        """The task of each episode that a member plays, in the order of `table`."""
        blocks = [block for queue in self.queues for block in self.blocks(queue)[0]]
        return [block.task for block in blocks for _ in range(block.num_episodes)]


def ranges_of(hparams: HParams, task: Task) -> Any:
    """The ranges that a task's systems are drawn in."""
    if hparams.tasks is None:
        return hparams.randomize
    return hparams.tasks.get(task.name, {}).get("randomize")


def _keys_of_queue(keys: Array, queue: int) -> Array:
    """Of trials [T]; the first queue's are those that a search in one environment has."""
    apart = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, QUEUES), queue))
    return apart(keys) if queue else keys


def _now(state: State) -> State:
    """The state with its numbers as they are in this generation."""
    if state.generation is None:
        return state
    return state._replace(hparams=numbers.now(state.hparams, state.generation))


def _after(state: State, train: Episode, moments: Any) -> State:
    """The state after a generation of these episodes [J]."""
    observations, hparams, mean_length, generation = state
    if observations is not None:
        observations = merge(observations, train, moments)
    if mean_length is not None:  # of whole numbers, so that no order of adding shows
        mean_length = train.length.sum().astype(jnp.float32) / train.length.size
    if generation is not None:
        generation = generation + 1
    return State(observations, hparams, mean_length, generation)


def _between(begin: int, end: int, leaf: Array) -> Array:
    return leaf[begin:end]


def _flat(leaf: Any) -> Any:
    """Of a table [N, E], its jobs [J]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), leaf)
