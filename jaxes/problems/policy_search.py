"""Policy search: the fitness of a parameter vector is the return of the policy that it makes."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
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
    check_number,
    check_positive,
)
from jaxes.core import TEST, TRAIN, Evaluation, Population, Problem, Tests
from jaxes.environments.base import Environment, observation_size, tidied
from jaxes.policies import Params, Policy, PolicyFactory, PolicyState, make_policy, mlp
from jaxes.problems.numbering import Numbering, solutions
from jaxes.problems.observations import (
    Normalizer,
    ObservationStatistics,
    merge,
    no_observations,
    std,
)
from jaxes.rollouts.episodes import Context, Episode, make_simulation
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.rollouts.tuning import tuned_lanes
from jaxes.rollouts.width import Width, suitable_lanes
from jaxes.specs import of_search, recorded, spec_of
from jaxes.trials import of_trial, vmapped_into_one_queue

Lanes = int | Literal["tune"] | None


class HParams(NamedTuple):
    alive_penalty: Array | float  # a step
    observation_clip: Array | float  # > 0, in standard deviations
    discount: Array | float  # γ in (0, 1]
    episode_cap: Array | float | None = None  # at least 1, in mean lengths; None for no cap


class State(NamedTuple):
    observations: ObservationStatistics | None  # None where they are not normalized
    hparams: HParams
    mean_length: Array | None = None  # [], of the last generation's episodes, where they are capped


class Episodes(NamedTuple):
    """The arguments that say which episodes are played."""

    episode_length: int
    num_episodes: int
    num_test_episodes: int


class Actor(NamedTuple):
    """What one job acts with: the policy's parameters, and how observations are normalized."""

    params: Params
    normalizer: Normalizer | None


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
    **unknown: Any,
) -> Problem:
    """Policy search in an environment.

    A member's fitness is the mean over its episodes of Σ γ^t r_t - alive_penalty · steps. In a
    generation all members meet the same episodes (common random numbers), and each generation draws
    new ones. The returns themselves, undiscounted, are reported as `return/mean` and by tests.

    Args:
      environment: from `jaxes.environments`, or a `jaxes.Environment` of your own.
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

    Raises:
      ValueError: an environment or a policy that fails or returns something else than it should, a
        value outside its range, an unknown argument; before anything is compiled.

    Example:
      >>> hopper = jaxes.environments.brax("hopper")
      >>> problem = jaxes.problems.policy_search(hopper, jaxes.policies.mlp((64, 64)))
    """
    _refuse(unknown)
    for field, value in [
        ("episode_length", episode_length),
        ("num_episodes", num_episodes),
        ("num_test_episodes", num_test_episodes),
        ("num_lanes", 1 if num_lanes in (None, "tune") else num_lanes),
    ]:
        check_count(field, value)
    defaults = HParams(alive_penalty, observation_clip, discount, episode_cap)
    check_hparams(defaults)
    check("policy", policy, callable(policy), "made by a function of jaxes.policies, such as mlp")

    num_observations = observation_size(environment)
    environment = tidied(environment)
    network, params = make_policy(policy, num_observations, environment.num_outputs)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    search = _PolicySearch(
        environment=environment,
        network=network,
        unravel=ravel_pytree(zeros)[1],
        episode_length=episode_length,
        num_episodes=num_episodes,
        num_test_episodes=num_test_episodes,
        num_observations=num_observations if normalize_observations else None,
        spec=spec_of(policy),
        num_lanes=tuned_lanes(environment, network) if num_lanes == "tune" else None,
        required_lanes=num_lanes if isinstance(num_lanes, int) else None,
    )

    def init(key: Array, hparams: HParams = defaults) -> State:
        return State(
            observations=no_observations(num_observations) if normalize_observations else None,
            hparams=jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), hparams),
            mean_length=None if episode_cap is None else jnp.asarray(episode_length, jnp.float32),
        )

    return Problem(
        init=init,
        evaluate=vmapped_into_one_queue(search.evaluate),
        initial_mean=lambda key: ravel_pytree(network.init(key))[0],
        hparams=defaults,
        environment=environment,
        policy=search.policy,
        episodes=Episodes(episode_length, num_episodes, num_test_episodes),
    )


def check_hparams(hparams: HParams) -> None:
    """Raises a ValueError for a number outside its range."""
    check_positive("observation_clip", hparams.observation_clip)
    check_number("alive_penalty", hparams.alive_penalty)
    check_fraction("discount", hparams.discount)
    if hparams.episode_cap is not None:
        check_number("episode_cap", hparams.episode_cap, lambda cap: cap >= 1, "at least 1")


def _refuse(unknown: dict[str, Any]) -> None:
    """Raises a ValueError for the first of these keyword arguments."""
    if "alive_bonus" in unknown:
        raise ValueError("alive_bonus is called alive_penalty, since it is subtracted")
    parameters = inspect.signature(policy_search).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind.name == "KEYWORD_ONLY"]
    for name in unknown:
        check_name("arguments", name, ["policy", *known])


@dataclasses.dataclass(frozen=True)
class _PolicySearch:
    """The static arguments of `policy_search`, and what a generation of T trials does with them."""

    environment: Environment
    network: Policy
    unravel: Callable[[Array], Params]
    episode_length: int
    num_episodes: int
    num_test_episodes: int
    num_observations: int | None  # None where they are not normalized
    spec: Mapping[str, Any] | None  # the network's
    num_lanes: int | None
    required_lanes: int | None

    def numbering(self, population: Population, num_trials: int = 1) -> Numbering:
        return Numbering(population.size, self.num_episodes, self.num_test_episodes, num_trials)

    def evaluate(
        self, keys: Array, populations: Population, problem_states: State, phases: Array
    ) -> Evaluation:
        """What `jaxes.trials.vmapped_into_one_queue` asks for."""
        numbering = self.numbering(populations, phases.size)
        job = jnp.arange(numbering.num_trials * numbering.num_jobs, dtype=jnp.int32)
        episodes = jnp.arange(numbering.num_keys, dtype=jnp.int32)
        needed = jnp.where(numbering.is_test(job), TEST, TRAIN).reshape(phases.size, -1)

        def episode_keys(key: Array) -> Array:
            return jax.vmap(partial(jax.random.fold_in, key))(episodes)

        def center(actor: Actor) -> Array:
            assert actor.normalizer is not None
            return actor.normalizer.mean

        results = rollout(
            make_simulation(
                self.environment,
                self.act,
                self.network,
                episode_length=self.episode_length,
                num_observations=self.num_observations,
                center=center if self.num_observations else None,
            ),
            Jobs(
                pending=(needed == phases[:, None]).reshape(-1),
                keys=jax.vmap(episode_keys)(keys).reshape(-1),
                episode=numbering.key(job),
                context=partial(self.context, numbering, populations, problem_states),
            ),
            Width.of(self.lanes(numbering.num_trials * numbering.num_train_jobs)),
        )
        steps = jnp.sum(results.outcomes.length.astype(jnp.float32))
        utilization = steps / jnp.maximum(results.lane_steps, 1)
        episodes_of_trials, moments = jax.tree.map(
            lambda leaf: leaf.reshape(phases.size, -1, *leaf.shape[1:]), results[:2]
        )
        score = jax.vmap(self.score, in_axes=(0, 0, 0, None))
        return score(problem_states, episodes_of_trials, moments, utilization)

    def lanes(self, num_jobs: int) -> int:
        """How many lanes a device has."""
        if self.required_lanes is None:
            return suitable_lanes(num_jobs, self.num_lanes)
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
        return self.environment.action(outputs), policy_state

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
        self, problem_state: State, episodes: Episode, moments: Any, utilization: Array
    ) -> Evaluation:
        """What the episodes [J] of one trial come to."""
        num_train_jobs = episodes.length.size - self.num_test_episodes
        train = jax.tree.map(lambda leaf: leaf[:num_train_jobs], episodes)
        test = jax.tree.map(lambda leaf: leaf[num_train_jobs:], episodes)
        observations, hparams, mean_length = problem_state
        if observations is not None:
            observations = merge(observations, train, moments[:num_train_jobs])
        steps, length = train.length.sum(), train.length.astype(train.discounted_return.dtype)
        if mean_length is not None:  # of whole numbers, so that no order of adding shows
            mean_length = steps.astype(jnp.float32) / num_train_jobs
        fitness = train.discounted_return - hparams.alive_penalty * length
        fitness = jnp.where(train.diverged, jnp.nan, fitness)
        returns = jnp.where(train.diverged, jnp.nan, train.total_reward)
        returns = returns.reshape(-1, self.num_episodes).mean(axis=1)
        return Evaluation(
            fitness=fitness.reshape(-1, self.num_episodes).mean(axis=1),
            problem_state=State(observations, hparams, mean_length),
            metrics={
                "return/mean": jnp.nanmean(returns),
                "return/max": jnp.nanmax(returns),
                "rollout/env_steps": steps,
                "rollout/episode_length": train.length.mean(),
                "rollout/diverged": train.diverged.sum(),
                "rollout/truncated": train.truncated.sum(),
                "rollout/utilization": utilization,
            },
            tests=Tests(
                test.total_reward, test.length, test.diverged, test.truncated, test.measures
            ),
        )
