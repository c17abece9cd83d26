"""What the episodes of a generation come to: fitness, what is told of them, and the next state."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.core import Evaluation, Tests
from jaxes.problems.aggregates import Aggregate
from jaxes.problems.observations import merge
from jaxes.problems.queues import Block, Queue
from jaxes.problems.state import HParams, State
from jaxes.problems.tasks import Task
from jaxes.rollouts.episodes import Episode


class Left(NamedTuple):
    """What the jobs of one queue left.

    Attributes:
      episodes: [J].
      moments: of observations, [J, 2, O] of those jobs that this device ran, zeros of the others.
      measures: by name, [E] of the test jobs alone.
    """

    episodes: Episode
    moments: Any
    measures: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Of one trial.

    Attributes:
      queues: in which the episodes stand.
      aggregate: what a member's episodes come to; None for the mean of one task's.
    """

    queues: tuple[Queue, ...]
    aggregate: Aggregate | None

    def score(
        self,
        size: int,
        state: State,
        played: list[Left],
        utilization: Array,
    ) -> Evaluation:
        """What the episodes of one trial come to, whose population has this size: of each queue
        [J], with what was noted of them. The numbers in the state are this generation's."""
        train, moments = self.table(size, played)
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
            tests=self.tests(size, played),
        )

    def table(self, size: int, played: list[Left]) -> tuple[Episode, Any]:
        """The episodes of training and their moments, `[N, E]`: a column for each that members
        play, task by task."""

        def of_queue(queue: Queue, left: Left) -> Any:
            numbering = queue.numbering(size)
            shape, count = (size, numbering.num_episodes), numbering.num_train_jobs
            both = left.episodes, left.moments
            return jax.tree.map(lambda x: x[:count].reshape(*shape, *x.shape[1:]), both)

        tables = [of_queue(queue, left) for queue, left in zip(self.queues, played, strict=True)]
        whole = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *tables)
        places = [block.place for block in self._blocks]
        order = sorted(range(len(places)), key=places.__getitem__)
        return whole if order == sorted(order) else jax.tree.map(lambda x: x[:, order], whole)

    def tests(self, size: int, played: list[Left]) -> Tests | dict[str, Tests]:
        """By the names of their blocks; of one task in its base system alone, as they are."""
        found = {}
        for queue, left in zip(self.queues, played, strict=True):
            first = queue.numbering(size).num_train_jobs
            tested, begin = jax.tree.map(partial(_between, first, None), left.episodes), 0
            for block in queue.test:
                end = begin + block.num_episodes
                part, measures = jax.tree.map(
                    partial(_between, begin, end), (tested, left.measures)
                )
                found[block.name] = Tests(
                    part.total_reward, part.length, part.diverged, part.truncated, measures
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
        places: dict[str, list[int]] = {}
        for place, task in enumerate(self.columns):
            places.setdefault(task.name, []).append(place)
        # Of members first: a sum over both axes at once is of another order in another program.
        means = {name: values[:, own].mean(axis=1) for name, own in places.items()}
        # Each task counts as much, however many episodes it has.
        of_members = jnp.stack([*means.values()]).mean(axis=0)
        told = {"return/mean": jnp.nanmean(of_members), "return/max": jnp.nanmax(of_members)}
        if len(places) == 1:
            return told
        by_task = {name: jnp.nanmean(of_task) for name, of_task in means.items()}
        told |= {f"return/{name}": value for name, value in by_task.items()}
        least, most = (pick(jnp.stack([*by_task.values()])) for pick in (jnp.min, jnp.max))
        return told | {"return/worst_task": least, "return/task_spread": most - least}

    @property
    def columns(self) -> list[Task]:
        """The task of each episode that a member plays, in the order of `table`."""
        return [block.task for block in sorted(self._blocks, key=lambda block: block.place)]

    @property
    def _blocks(self) -> list[Block]:
        """That of each episode that a member plays, queue by queue."""
        blocks = [block for queue in self.queues for block in queue.train]
        return [block for block in blocks for _ in range(block.num_episodes)]


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


def _between(begin: int, end: int | None, leaf: Array) -> Array:
    return leaf[begin:end]


def _flat(leaf: Any) -> Any:
    """Of a table [N, E], its jobs [J]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), leaf)
