"""Tasks: environments that one policy is judged in, each with a system of its own or a range of
them.

Tasks that differ in nothing but numbers of their system are one physics, and share a queue: what
differs rides in the lane of an episode, and all else is a constant of the program.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, kinds
from jaxes.core import DRAWN
from jaxes.environments.base import (
    Environment,
    EnvState,
    WithSystem,
    flat,
    is_made_by_its_system,
    observation_size,
    tidied,
)
from jaxes.environments.randomize import Range
from jaxes.hparams import paths
from jaxes.specs import spec_of, with_spec

Condition = Literal["none", "one_hot", "parameters"]
SYSTEM = 2**32 - 1  # of an episode's key: what its system is drawn from, and nothing else


class Task(NamedTuple):
    """An environment as a search meets it.

    Attributes:
      name: empty where there is one alone.
      environment: a tidy one.
      observation_size: of it.
      num_episodes: of a member and generation.
    """

    name: str
    environment: Environment
    observation_size: int
    num_episodes: int

    @classmethod
    def of(cls, environment: Environment, num_episodes: int, name: str = "") -> "Task":
        """Raises a ValueError for an environment that is none (see `observation_size`), or that is
        randomized otherwise than by `jaxes.randomize.randomized`."""
        size = observation_size(environment)
        for field in ("randomize", "test_randomize"):
            drawn = getattr(environment, field)
            made = drawn is None or bool(getattr(drawn, "leaves", ()))
            check(f"environment.{field}", drawn, made, "put there by jaxes.randomize.randomized")
        if environment.with_system is not None and not is_made_by_its_system(environment):
            # What was replaced in it would be lost in another system.
            drawn = environment.randomize or environment.test_randomize
            allowed = "one that is randomized after its functions are replaced, not before"
            check("environment", environment.name, drawn is None, allowed)
            alone = environment._replace(with_system=None)
            environment = with_spec(alone, spec_of(environment))
        return cls(name, tidied(environment), size, num_episodes)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of its tests: `base`, and of `jaxes.core.DRAWN` those that it has."""
        given = self.environment.randomize, self.environment.test_randomize
        return ("base", *(kind for kind, one in zip(DRAWN, given, strict=True) if one is not None))


class System(NamedTuple):
    """What of its system is an episode's own: the leaves that differ, and what of them or of its
    task the policy is told."""

    leaves: tuple[Array, ...]
    condition: Array | tuple[()]


class Sizes(NamedTuple):
    """What a policy of all tasks sees and gives."""

    observation: int  # without the condition
    condition: int
    outputs: int
    discrete: bool


@dataclasses.dataclass(frozen=True)
class Physics:
    """Tasks that share a queue.

    Attributes:
      tasks: with their places among all tasks.
      differs: the leaves of the system, by their places, that tasks or draws change.
      sizes: of the policy.
      condition: what it is told; `one_hot` of which of so many tasks.
      num_tasks: of all physics.
    """

    tasks: tuple[tuple[int, Task], ...]
    differs: tuple[int, ...]
    sizes: Sizes
    condition: Condition
    num_tasks: int

    def environment_in(self, system: System) -> Environment:
        """The environment of an episode with that of its system; all tasks' have one form."""
        _, first = self.tasks[0]
        environment = first.environment
        if self.differs:
            leaves, structure = jax.tree.flatten(environment.system)
            for i, leaf in zip(self.differs, system.leaves, strict=True):
                leaves[i] = leaf
            assert environment.with_system is not None
            environment = environment.with_system(jax.tree.unflatten(structure, leaves))
        return aligned(environment, first.observation_size, self.sizes, system.condition)

    def environment_of(self, place: int, task: Task) -> Environment:
        """The environment of a task in its base system."""
        told = self._system(place, jax.tree.leaves(task.environment.system)).condition
        return aligned(task.environment, task.observation_size, self.sizes, told)

    def draw(
        self, kind: str, place: int, task: Task, ranges: Mapping[str, Range] | None, key: Array
    ) -> System:
        """The system of a task's episode of this key."""
        environment = task.environment
        key = jax.random.fold_in(key, SYSTEM)
        if kind == "base":
            drawn = environment.system
        elif kind == "held_out":
            drawn = environment.test_randomize(key, environment.system)
        else:
            drawn = environment.randomize(key, environment.system, ranges)
        return self._system(place, jax.tree.leaves(drawn))

    def _system(self, place: int, leaves: Sequence[Any]) -> System:
        own = tuple(jnp.asarray(leaves[i], jnp.result_type(leaves[i])) for i in self.differs)
        if self.condition == "none":
            return System(own, ())
        if self.condition == "one_hot":
            return System(own, jax.nn.one_hot(place, self.num_tasks, dtype=jnp.float32))
        told = flat(own) if own else jnp.zeros(0)
        return System(own, jnp.pad(told, (0, self.sizes.condition - told.size)))


def physics_of(
    tasks: Sequence[Task], condition: Condition = "none", pad: bool = False
) -> tuple[Physics, ...]:
    """The queues that the tasks need.

    Args:
      tasks: all of them.
      condition: what the policy is told of its task.
      pad: whether observations and actions of other sizes are padded.

    Raises:
      ValueError: tasks of different sizes that are not padded, or discrete and continuous actions
        together; nothing differs that the policy could be told.
    """
    groups: list[list[tuple[int, Task]]] = []
    for place, task in enumerate(tasks):
        alike = (group for group in groups if same_physics(group[0][1], task))
        group = next(alike, [])
        if not group:
            groups.append(group)
        group.append((place, task))
    differing = [differing_leaves([task for _, task in group]) for group in groups]
    told = _condition_size(condition, len(tasks), groups, differing)
    sizes = _sizes(tasks, told, pad)
    return tuple(
        Physics(tuple(group), differs, sizes, condition, len(tasks))
        for group, differs in zip(groups, differing, strict=True)
    )


def same_physics(one: Task, other: Task) -> bool:
    """Whether they differ in numbers of their system alone."""
    a, b = one.environment, other.environment
    if a.with_system is None or b.with_system is None:
        return False
    same = a.with_system == b.with_system and a.num_outputs == b.num_outputs
    # A tree may hold a model, made anew for each environment, beside the numbers: what is not in
    # its leaves is the same where environments are made of the same.
    told = isinstance(a.with_system, WithSystem)
    systems = (paths(a.system), paths(b.system)) if told else (a.system, b.system)
    return bool(same and kinds(systems[0]) == kinds(systems[1]))


def differing_leaves(tasks: Sequence[Task]) -> tuple[int, ...]:
    """The leaves of the system, by their places, that differ between tasks or are drawn."""
    first = tasks[0].environment
    found: set[int] = set()
    for task in tasks:
        environment = task.environment
        pairs = zip(jax.tree.leaves(first.system), jax.tree.leaves(environment.system), strict=True)
        if environment is not first:
            found |= {i for i, (a, b) in enumerate(pairs) if not np.array_equal(a, b)}
        for randomizer in (environment.randomize, environment.test_randomize):
            found |= set(randomizer.leaves if randomizer else ())
    return tuple(sorted(found))


def _condition_size(
    condition: Condition,
    num_tasks: int,
    groups: Sequence[Sequence[tuple[int, Task]]],
    differing: Sequence[tuple[int, ...]],
) -> int:
    """How many numbers the policy is told."""
    if condition == "none":
        return 0
    if condition == "one_hot":
        return num_tasks
    sizes = []
    for group, differs in zip(groups, differing, strict=True):
        leaves = jax.tree.leaves(group[0][1].environment.system)
        sizes.append(sum(int(np.size(leaves[i])) for i in differs))
    allowed = "none or one_hot: no number of a system differs that the policy could be told"
    check("condition", condition, max(sizes) > 0, allowed)
    return max(sizes)


def _sizes(tasks: Sequence[Task], condition: int, pad: bool) -> Sizes:
    observed = {task.name: task.observation_size for task in tasks}
    outputs = {task.name: task.environment.num_outputs for task in tasks}
    discrete = {task.name: task.environment.num_actions is not None for task in tasks}
    kinds = {name: "discrete" if chosen else "continuous" for name, chosen in discrete.items()}
    one = len(set(kinds.values())) == 1
    check("tasks", kinds, one, "of tasks whose actions are all discrete or all continuous")
    for what, counts in (("observations", observed), ("actions", outputs)):
        same = len(set(counts.values())) == 1
        check("tasks", counts, pad or same, f"of as many {what}, or padded (pad=True)")
    first = next(iter(discrete.values()))
    return Sizes(max(observed.values()), condition, max(outputs.values()), first)


def aligned(
    environment: Environment, observation_size: int, sizes: Sizes, condition: Any
) -> Environment:
    """The environment with observations and actions of these sizes; itself where it has them.

    After its own observation stand zeros, and then the condition. Of an action, what it has no use
    for is left out; a discrete one beyond its own is its last.
    """
    own = observation_size, 0, environment.num_outputs, environment.num_actions is not None
    if own == sizes:
        return environment
    zeros = jnp.zeros(sizes.observation - observation_size, jnp.float32)

    def seen(observation: Array) -> Array:
        return jnp.concatenate([observation, zeros, *([condition] if sizes.condition else [])])

    def reset(key: Array) -> tuple[EnvState, Array]:
        env_state, observation = environment.reset(key)
        return env_state, seen(observation)

    def step(env_state: EnvState, action: Array) -> tuple[EnvState, Array, Array, Array]:
        if environment.num_actions is None:
            action = action[: environment.action_size]
        else:
            action = jnp.minimum(action, environment.num_actions - 1)
        env_state, observation, reward, done = environment.step(env_state, action)
        return env_state, seen(observation), reward, done

    # What is a function of the observation alone is one of another observation now.
    return environment._replace(
        reset=reset,
        step=step,
        action_size=None if sizes.discrete else sizes.outputs,
        num_actions=sizes.outputs if sizes.discrete else None,
        reward_fn=None,
        done_fn=None,
        system=None,
        with_system=None,
        randomize=None,
        test_randomize=None,
        spec=None,
    )
