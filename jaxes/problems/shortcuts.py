"""Short ways to a policy search in an environment that has a name."""

from collections.abc import Mapping
from typing import Any

from jaxes import environments
from jaxes.core import Problem
from jaxes.environments.base import Environment
from jaxes.environments.brax_envs import Backend
from jaxes.environments.playground_envs import Implementation
from jaxes.environments.randomized import randomized
from jaxes.policies import PolicyFactory, mlp
from jaxes.problems.policy_search import policy_search, refuse


def brax(
    env_name: str | Any,
    backend: Backend = "spring",
    options: Mapping[str, Any] | None = None,
    *,
    policy: PolicyFactory | None = None,
    randomize: Any = None,
    test_randomize: Any = None,
    **settings: Any,
) -> Problem:
    """Policy search in an environment of Brax.

    See `jaxes.environments.brax` for the arguments, `jaxes.randomize.randomized` for
    `randomize` and `test_randomize`, and `jaxes.problems.policy_search` for the settings and what
    is raised.

    Example:
      >>> problem = jaxes.problems.brax("hopper", policy=jaxes.policies.mlp((64, 64)))
    """
    environment = environments.brax(env_name, backend, options)
    return _search(environment, policy, randomize, test_randomize, settings)


def gymnax(
    env_name: str,
    env_params: Mapping[str, Any] | None = None,
    *,
    policy: PolicyFactory | None = None,
    randomize: Any = None,
    test_randomize: Any = None,
    **settings: Any,
) -> Problem:
    """Policy search in an environment of gymnax.

    See `jaxes.environments.gymnax` for the arguments, `jaxes.randomize.randomized` for
    `randomize` and `test_randomize`, and `jaxes.problems.policy_search` for the settings and what
    is raised.

    Example:
      >>> problem = jaxes.problems.gymnax("CartPole-v1", policy=jaxes.policies.linear())
    """
    environment = environments.gymnax(env_name, env_params)
    return _search(environment, policy, randomize, test_randomize, settings)


def playground(
    env_name: str,
    implementation: Implementation | None = None,
    *,
    policy: PolicyFactory | None = None,
    randomize: Any = None,
    test_randomize: Any = None,
    **settings: Any,
) -> Problem:
    """Policy search in an environment of MuJoCo Playground.

    See `jaxes.environments.playground` for the arguments, `jaxes.randomize.randomized` for
    `randomize` and `test_randomize`, and `jaxes.problems.policy_search` for the settings and what
    is raised.

    Example:
      >>> problem = jaxes.problems.playground("CartpoleBalance")
    """
    environment = environments.playground(env_name, implementation)
    return _search(environment, policy, randomize, test_randomize, settings)


def _search(
    environment: Environment,
    policy: PolicyFactory | None,
    randomize: Any,
    test_randomize: Any,
    settings: dict[str, Any],
) -> Problem:
    refuse(policy_search, settings, "randomize", "test_randomize")
    environment = randomized(environment, randomize, test_randomize)
    return policy_search(environment, policy or mlp(), **settings)
