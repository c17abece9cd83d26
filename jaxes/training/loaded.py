"""Tests of a policy that has left its run, on fresh episodes."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_count, check_seed
from jaxes.core import Problem, TrainHParams
from jaxes.environments.base import Environment
from jaxes.policies import Policy
from jaxes.policy_directory import LoadedPolicy
from jaxes.problems.many import many
from jaxes.problems.policy_search import policy_search
from jaxes.strategies.snes import snes
from jaxes.training.batch import with_zero_mean
from jaxes.training.evaluate import outcome, start_of, tester
from jaxes.training.run import Run, RunResult, Trial

OF_TRAINING = (
    "trial",
    "values",
    "generation",
    "population_return",
    "best_return",
    "env_steps",
    "num_diverged",
    "seconds",
)


@jax.disable_jit(False)  # as in `train`
def evaluate_policy(
    policy: LoadedPolicy,
    environment: Environment | Mapping[str, Environment],
    *,
    num_episodes: int = 100,
    seed: int = 0,
) -> RunResult:
    """Tests a policy in the episodes that its run would be tested in.

    What a result says of training is what the run said when the policy left it.

    Args:
      policy: of a policy directory.
      environment: where it acts, or tasks' environments by name.
      num_episodes: at least 1.
      seed: of the episodes.

    Raises:
      ValueError: the environment has other observations or actions, or the policy is of no policy
        search.
    """
    check_count("num_episodes", num_episodes)
    check_seed("seed", seed)
    problem = problem_of(policy, environment)
    strategy = snes(max(4, problem.episodes.num_test_episodes))  # its members never play
    told = policy.about["result"]
    run = Run(Trial(0, told["seed"], {}, TrainHParams(strategy.hparams, problem.hparams)), None)
    result = outcome(
        run,
        start_of(problem, strategy),
        tester(problem, strategy),
        with_zero_mean,
        num_episodes=num_episodes,
        seed=seed,
    )
    of_training: dict[str, Any] = {
        name: math.nan if told[name] is None else told[name] for name in OF_TRAINING
    }
    return result._replace(**of_training)


def problem_of(
    policy: LoadedPolicy, environment: Environment | Mapping[str, Environment]
) -> Problem:
    """A search whose one parameter switches the policy on, or off at 0, in the episodes of its run.

    Raises:
      ValueError: as `evaluate_policy`.
    """
    episodes = policy.about["episodes"]
    check("policy", episodes, episodes is not None, "of a policy search, whose episodes are known")
    make = partial(_switched, policy)
    if isinstance(environment, Environment):
        return policy_search(environment, make, normalize_observations=False, **episodes)
    told = {name: policy.about["tasks"][name] for name in ("condition", "pad")}
    return many(environment, make, normalize_observations=False, **told, **episodes)


def _switched(policy: LoadedPolicy, observation_size: int, num_outputs: int) -> Policy:
    """The policy with one parameter: where that is zero, it acts as the zero policy does."""
    given, own = (observation_size, num_outputs), (policy.observation_size, policy.num_outputs)
    check("policy's environment", given, given == own, f"of (observations, outputs) {own}, its own")

    def apply(switch: Array, policy_state: Any, observation: Array) -> tuple[Array, Any]:
        action, policy_state = policy.apply(policy_state, observation)
        if policy.num_actions is not None:
            action = jax.nn.one_hot(action, policy.num_actions)
        return jnp.where(switch[0] != 0, action, 0), policy_state

    return Policy(lambda key: jnp.ones(1), policy.initial_state, apply)
