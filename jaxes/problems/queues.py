"""Which episodes stand where in the queue of a physics, and what each starts from."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.problems.numbering import Numbering
from jaxes.problems.state import HParams, ranges_of
from jaxes.problems.tasks import Physics, Task
from jaxes.rollouts.episodes import Origin


class Block(NamedTuple):
    """Episodes of a trial's queue that stand together: of one task, and one kind of systems."""

    place: int
    task: Task
    kind: str
    num_episodes: int

    @property
    def name(self) -> str:
        """Of tests of these."""
        if not self.task.name:
            return self.kind
        return self.task.name if self.kind == "base" else f"{self.task.name}/{self.kind}"


@dataclasses.dataclass(frozen=True)
class Queue:
    """The episodes of tasks that share a physics.

    Attributes:
      physics: of all of them.
      train: what each member plays.
      test: what the mean is tested in.
    """

    physics: Physics
    train: tuple[Block, ...]
    test: tuple[Block, ...]

    @classmethod
    def of(cls, physics: Physics, num_test_episodes: int) -> "Queue":
        """With so many episodes in each test."""
        train = [
            Block(place, task, "randomized" if task.environment.randomize else "base", count)
            for place, task in physics.tasks
            if (count := task.num_episodes)
        ]
        test = [
            Block(place, task, kind, num_test_episodes)
            for place, task in physics.tasks
            for kind in task.kinds
        ]
        return cls(physics, tuple(train), tuple(test))

    def numbering(self, population_size: int, num_trials: int = 1) -> Numbering:
        train, test = (
            sum(block.num_episodes for block in some) for some in (self.train, self.test)
        )
        return Numbering(population_size, train, test, num_trials)

    def origins(self, keys: Array, hparams: HParams) -> Origin:
        """Of the episodes of trials whose keys and numbers these are, trial by trial."""
        blocks = (*self.train, *self.test)
        count = sum(block.num_episodes for block in blocks)
        episodes = jnp.arange(count, dtype=jnp.int32)

        def of_one_trial(key: Array, hparams: HParams) -> Origin:
            keys = jax.vmap(partial(jax.random.fold_in, key))(episodes)
            systems, begin = [], 0
            for block in blocks:
                own = keys[begin : begin + block.num_episodes]
                begin += block.num_episodes
                ranges = ranges_of(hparams, block.task)
                draw = partial(self.physics.draw, block.kind, block.place, block.task, ranges)
                systems.append(jax.vmap(draw)(own))
            return Origin(keys, jax.tree.map(lambda *parts: jnp.concatenate(parts), *systems))

        return jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.vmap(of_one_trial)(keys, hparams)
        )
