"""Policy search: the fitness of a parameter vector is the return of the policy that it makes."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes.checks import (
    check,
    check_count,
    check_fraction,
    check_name,
    check_non_negative,
    check_number,
    check_positive,
)
from jaxes.core import Problem
from jaxes.environments.base import Environment
from jaxes.environments.randomize import check_range
from jaxes.hparams import ends, has_ramp
from jaxes.policies import PolicyFactory, make_policy, mlp
from jaxes.problems.aggregates import Aggregate, aggregate_of
from jaxes.problems.judge import Judge
from jaxes.problems.observations import no_observations
from jaxes.problems.queues import Queue
from jaxes.problems.state import HParams, State
from jaxes.problems.tasks import Condition, Task, physics_of
from jaxes.problems.verdict import Verdict
from jaxes.rollouts.tuning import tuned_lanes
from jaxes.specs import of_search, recorded, spec_of
from jaxes.trials import vmapped_into_one_queue

Lanes = int | Literal["tune"] | None


class Episodes(NamedTuple):
    """The arguments that say which episodes are played; of several tasks `num_episodes` by task."""

    episode_length: int
    num_episodes: int | dict[str, int]
    num_test_episodes: int


class Settings(NamedTuple):
    """The arguments of a policy search that are the same whatever it is judged in."""

    episode_length: int
    num_test_episodes: int
    normalize_observations: bool
    num_lanes: Lanes

    def check(self) -> None:
        """Raises a ValueError for a value outside its range."""
        for field, value in [
            ("episode_length", self.episode_length),
            ("num_test_episodes", self.num_test_episodes),
            ("num_lanes", 1 if self.num_lanes in (None, "tune") else self.num_lanes),
        ]:
            check_count(field, value)


@recorded(of_search)
def policy_search(
    environment: Environment,
    policy: PolicyFactory = mlp(),  # noqa: B008
    *,
    num_episodes: int = 1,
    episode_length: int = 1000,
    num_test_episodes: int = 100,
    normalize_observations: bool = True,
    observation_clip: float = 10.0,
    alive_penalty: float = 0.0,
    discount: float = 1.0,
    episode_cap: float | None = None,
    num_lanes: Lanes = None,
    aggregate: str | Aggregate | None = None,
    **unknown: Any,
) -> Problem:
    """Policy search in an environment.

    A member's fitness is the mean over its episodes of Σ γ^t r_t - alive_penalty · steps. In a
    generation all members meet the same episodes (common random numbers), and each generation draws
    new ones. The returns themselves, undiscounted, are reported as `return/mean` and by tests.
    Where the environment is randomized, each episode has a system of its own.

    Args:
      environment: from `jaxes.environments`, or a `jaxes.Environment` of your own; or a randomized
        one (`jaxes.randomize.randomized`).
      policy: from `jaxes.policies`, or any `(observation_size, num_outputs) -> Policy`.
      num_episodes: episodes a member and generation; the same ones for all members.
      episode_length: steps after which an episode ends at the latest.
      num_test_episodes: fresh episodes in a test of the mean.
      normalize_observations: by the mean and variance of all observations of earlier generations.
      observation_clip: bound on normalized observations, > 0, in standard deviations.
      alive_penalty: subtracted from fitness each step (not from returns), so that standing still
        does not pay; the environments' own bonus is 1 for hopper, walker2d and ant, 5 for humanoid.
      discount: γ in (0, 1], of fitness alone.
      episode_cap: at least 1: training episodes are cut at so many times the mean length of the
        last generation's (2 in Salimans et al. 2017), so that a few long ones hold nothing back;
        `rollout/truncated` counts them. Test episodes are not cut.
      num_lanes: episodes simulated side by side on a device; by default what suits the kind of
        device, and `tune` measures what suits this one when the problem is made (see
        `jaxes.rollouts.tuning`), once for each environment and policy. On CPU it does not show in
        the results (see `jaxes.use_cpu_devices`).
      aggregate: what a member's episodes come to: `mean`, by default, `min`, `median`, `cvar(α)`,
        the mean of the worst share α of them, or `ranks`, the mean over episodes of its centered
        rank among the members; or a function `(values [N, E], weights [E]) -> [N]`.

    Raises:
      ValueError: an environment or a policy that fails or returns something else than it should, a
        value outside its range, an unknown argument; before anything is compiled.

    Example:
      >>> hopper = jaxes.environments.brax("hopper")
      >>> problem = jaxes.problems.policy_search(hopper, jaxes.policies.mlp((64, 64)))
    """
    refuse(policy_search, unknown)
    check_count("num_episodes", num_episodes)
    settings = Settings(episode_length, num_test_episodes, normalize_observations, num_lanes)
    hparams = HParams(alive_penalty, observation_clip, discount, episode_cap)
    chosen = None if aggregate in (None, "mean") else aggregate_of(aggregate, num_episodes)
    task = Task.of(environment, num_episodes)
    if (randomizer := task.environment.randomize) is not None:
        hparams = hparams._replace(randomize=randomizer.ranges)
    return search_in([task], policy, settings, hparams, aggregate=chosen)


def search_in(
    tasks: Sequence[Task],
    policy: PolicyFactory,
    settings: Settings,
    defaults: HParams,
    *,
    aggregate: Aggregate | None,
    condition: Condition = "none",
    pad: bool = False,
) -> Problem:
    """The policy search that is judged in these tasks, or in one without a name; see `many` for the
    arguments.

    Raises:
      ValueError: a value outside its range, a policy that fails, tasks that do not go together.
    """
    settings.check()
    check_hparams(defaults)
    check("policy", policy, callable(policy), "made by a function of jaxes.policies, such as mlp")
    physics = physics_of(tasks, condition, pad)
    environments = {
        task.name: each.environment_of(place, task)
        for each in physics
        for place, task in each.tasks
    }
    first, sizes = environments[tasks[0].name], physics[0].sizes
    queues = tuple(Queue.of(each, settings.num_test_episodes) for each in physics)
    network, params = make_policy(policy, sizes.observation + sizes.condition, first.num_outputs)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    num_lanes, normalize = settings.num_lanes, settings.normalize_observations
    judge = Judge(
        queues=queues,
        verdict=Verdict(queues, aggregate),
        network=network,
        action=first.action,
        unravel=ravel_pytree(zeros)[1],
        episode_length=settings.episode_length,
        num_observations=sizes.observation if normalize else None,
        spec=spec_of(policy),
        num_lanes=tuned_lanes(first, network) if num_lanes == "tune" else None,
        required_lanes=num_lanes if isinstance(num_lanes, int) else None,
    )

    def init(key: Array, hparams: HParams = defaults) -> State:
        length = jnp.asarray(settings.episode_length, jnp.float32)
        return State(
            observations=no_observations(sizes.observation) if normalize else None,
            hparams=jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), hparams),
            mean_length=None if hparams.episode_cap is None else length,
            generation=jnp.zeros((), jnp.int32) if has_ramp(hparams) else None,
        )

    named = {task.name: task.num_episodes for task in tasks if task.name}
    num_episodes = named or tasks[0].num_episodes
    return Problem(
        init=init,
        evaluate=vmapped_into_one_queue(judge.evaluate),
        initial_mean=lambda key: ravel_pytree(network.init(key))[0],
        hparams=defaults,
        environment=first,
        tasks=environments if named else None,
        policy=judge.policy,
        episodes=Episodes(settings.episode_length, num_episodes, settings.num_test_episodes),
    )


def check_hparams(hparams: HParams) -> None:
    """Raises a ValueError for a number outside its range."""
    check_positive("observation_clip", hparams.observation_clip)
    check_number("alive_penalty", hparams.alive_penalty)
    check_fraction("discount", hparams.discount)
    if hparams.episode_cap is not None:
        check_number("episode_cap", hparams.episode_cap, lambda cap: cap >= 1, "at least 1")
    ranges = {"randomize": hparams.randomize or {}}
    for task, numbers in (hparams.tasks or {}).items():
        ranges[f"tasks.{task}.randomize"] = numbers["randomize"]
    for where, by_name in ranges.items():
        for name, bounds in by_name.items():
            check_range(f"{where}.{name}.", bounds)
    if hparams.weights is not None:
        _check_weights(hparams.weights)


def _check_weights(weights: Any) -> None:
    pairs: list[list[Any]] = []
    for task, weight in weights.items():
        for number in ends(f"weights.{task}", weight):
            check_non_negative(f"weights.{task}", number)
        pairs.append(ends("", weight))
    for moment in (0, -1):  # all change linearly between: the sum is 0 at an end, or nowhere
        total = sum(float(numbers[moment]) for numbers in pairs)
        check("weights", dict(weights), total > 0, "greater than 0 for one task at least")


def refuse(factory: Callable, given: dict[str, Any], *also: str) -> None:
    """Raises a ValueError for the first of these keyword arguments that the factory does not have,
    nor is one of those."""
    if "alive_bonus" in given:
        raise ValueError("alive_bonus is called alive_penalty, since it is subtracted")
    parameters = inspect.signature(factory).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind.name == "KEYWORD_ONLY"]
    for name in given:
        check_name("arguments", name, ["policy", *known, *also])
