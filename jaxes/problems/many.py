"""Many tasks: one policy is judged in several environments at once."""

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from jaxes.checks import check, check_count, check_name
from jaxes.core import DRAWN, Problem
from jaxes.environments.base import RESERVED, Environment
from jaxes.hparams import Number, number_of
from jaxes.policies import PolicyFactory, mlp
from jaxes.problems.aggregates import Aggregate, aggregate_of
from jaxes.problems.policy_search import Lanes, Settings, refuse, search_in
from jaxes.problems.state import HParams
from jaxes.problems.tasks import Condition, Task
from jaxes.specs import of_many, recorded


@recorded(of_many)
def many(
    tasks: Mapping[str, Environment],
    policy: PolicyFactory = mlp(),  # noqa: B008
    *,
    weights: Mapping[str, Number] | None = None,
    aggregate: str | Aggregate = "mean",
    condition: Condition = "none",
    pad: bool = False,
    num_episodes: int | Mapping[str, int] = 1,
    episode_length: int = 1000,
    num_test_episodes: int = 100,
    normalize_observations: bool = True,
    observation_clip: float = 10.0,
    alive_penalty: float = 0.0,
    discount: float = 1.0,
    num_lanes: Lanes = None,
    **unknown: Any,
) -> Problem:
    """Policy search over several environments, its tasks; easy ones lead out of local optima.

    All members meet the same episodes of every task. Tasks whose environments differ in numbers of
    their system alone (two of `trap`, or of `brax("hopper")`) share a queue of episodes; others
    have one each, one after another in the same program. Tests are told by task; the score is of
    all of them, each in its base system.

    Args:
      tasks: environments by name, randomized ones among them (`jaxes.randomize.randomized`).
      policy: of all of them.
      weights: of the tasks in the aggregate, at least 0, by name; 1 each by default. They are
        traced: sweep them, or let them follow a `jaxes.Ramp`.
      aggregate: what a member's episodes come to, each with its task's weight over its number:
        `mean`, `min`, `median`, `cvar(α)`, the mean of the worst share α, `ranks`, the mean of its
        centered ranks among the members, episode by episode, whatever the scale of a task's
        returns; or a function `(values [N, E], weights [E]) -> [N]`, E task by task.
      condition: what the policy sees of the task beside the observation: `none`, `one_hot` of which
        it is, or the `parameters` in which systems differ or are drawn (0 where there are fewer).
      pad: whether tasks of different sizes go together: shorter observations end with zeros; of an
        action a task takes the numbers that it has, of discrete ones beyond its own the last.
      num_episodes: of a member and generation in each task, or by task.
      episode_length: steps after which an episode ends at the latest.
      num_test_episodes: fresh episodes of the mean in each task; where it is randomized, as many
        again in drawn systems.
      normalize_observations: by the mean and variance of all observations, of all tasks, of earlier
        generations; the condition stays as it is.
      observation_clip: as in `policy_search`, like all that follow.
      alive_penalty: subtracted from fitness each step.
      discount: γ in (0, 1].
      num_lanes: episodes simulated side by side on a device.

    Raises:
      ValueError: no task, a name that is none, an environment or a policy that fails, tasks of
        different sizes without `pad`, weights that are negative or all zero, a task without
        episodes; before anything is compiled.

    Example:
      >>> trap = jaxes.environments.trap
      >>> problem = jaxes.problems.many({"wide": trap(2.0), "narrow": trap(0.3)})
    """
    refuse(many, unknown)
    check_name("condition", condition, get_args(Condition))
    check("pad", pad, isinstance(pad, bool), "a bool")
    _check_names(tasks)
    counts = _by_task("num_episodes", num_episodes, tasks)
    for name, count in counts.items():
        check_count(f"num_episodes.{name}", count)
    found = []
    for name, environment in tasks.items():
        try:
            found.append(Task.of(environment, counts[name], name))
        except ValueError as error:
            raise ValueError(f"tasks.{name}: {error}") from error
    by_task = weights is None or isinstance(weights, Mapping)
    check("weights", weights, by_task, "numbers by task")
    given = _by_task("weights", 1.0 if weights is None else weights, tasks)
    hparams = HParams(
        alive_penalty,
        observation_clip,
        discount,
        tasks={
            task.name: {"randomize": randomizer.ranges}
            for task in found
            if (randomizer := task.environment.randomize) is not None
        },
        weights={name: number_of(f"weights.{name}", weight) for name, weight in given.items()},
    )
    return search_in(
        found,
        policy,
        Settings(episode_length, num_test_episodes, normalize_observations, num_lanes),
        hparams,
        aggregate=aggregate_of(aggregate, sum(counts.values())),
        condition=condition,
        pad=pad,
    )


def _check_names(tasks: Any) -> None:
    mapping = isinstance(tasks, Mapping) and len(tasks) > 0
    check("tasks", tasks, mapping, "environments by name, one at least")
    for name in tasks:
        check_task_name("tasks", name)


def check_task_name(field: str, name: Any) -> None:
    """Raises a ValueError unless a task can have this name in rows and in configs."""
    plain = isinstance(name, str) and bool(re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", name))
    check(field, name, plain, "named by letters, digits, _ and -, a letter or digit first")
    taken = ("base", "mean", "max", *sorted(RESERVED), *DRAWN)
    free = name not in taken and not hasattr(BaseModel, name)
    check(
        field,
        name,
        free,
        f"named otherwise than what else there is in rows ({', '.join(taken)}) and configs",
    )


def _by_task(field: str, given: Any, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """One for each task, from that or from a mapping that has them all."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(tasks, given)
    for name in given:
        check_name(field, name, tasks)
    missing = [name for name in tasks if name not in given]
    check(field, dict(given), not missing, f"given for each task, {', '.join(missing)} too")
    return {name: given[name] for name in tasks}
