"""MuJoCo Playground. The only module that imports it, and only when an environment is made."""

import contextlib
import io
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_name, check_package
from jaxes.core import Problem
from jaxes.environment import Environment
from jaxes.policies import PolicyFactory, mlp
from jaxes.problems.brax_envs import quiet
from jaxes.problems.policy_search import Lanes, policy_search

Implementation = Literal["jax", "warp"]


def playground(
    env_name: str,
    implementation: Implementation | None = None,
    episode_length: int = 1000,
    num_episodes: int = 1,
    policy: PolicyFactory | None = None,
    normalize_observations: bool = True,
    observation_clip: float = 10.0,
    alive_bonus: float = 0.0,
    num_test_episodes: int = 100,
    num_lanes: Lanes = None,
) -> Problem:
    """Policy search on an environment of MuJoCo Playground.

    Needs `pip install -e '.[playground]'`. The DeepMind control suite works as installed; the
    models of locomotion and manipulation are a repository that Playground would download, and
    are refused where that is not there yet: jaxes downloads nothing.

    Args:
      env_name: an entry of `mujoco_playground.registry.ALL_ENVS`.
      implementation: of MuJoCo's physics; `warp` where there is a GPU, `jax` elsewhere.

    See `jaxes.problems.brax` for the other arguments.

    Raises:
      ValueError: an unknown environment, one whose model is not there or whose observations are
        several arrays, a value outside its range, or Playground is not installed.

    Example:
      >>> problem = jaxes.problems.playground("CartpoleBalance")
    """
    return policy_search(
        playground_environment(env_name, implementation),
        policy or mlp(),
        episode_length=episode_length,
        num_episodes=num_episodes,
        num_test_episodes=num_test_episodes,
        normalize_observations=normalize_observations,
        observation_clip=observation_clip,
        alive_bonus=alive_bonus,
        num_lanes=num_lanes,
    )


def playground_environment(env_name: str, implementation: str | None) -> Environment:
    """The bare environment: no auto-reset, no episode wrapper."""
    if implementation is None:
        implementation = "warp" if jax.default_backend() == "gpu" else "jax"
    check_name("implementation", implementation, get_args(Implementation))
    check_package("env_name", env_name, "mujoco_playground", "pip install -e '.[playground]'")
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        from mujoco_playground import dm_control_suite, registry
        from mujoco_playground._src.mjx_env import MENAGERIE_PATH

    check_name("env_name", env_name, registry.ALL_ENVS)
    if env_name not in dm_control_suite.ALL_ENVS and not MENAGERIE_PATH.exists():
        raise ValueError(
            f"env_name: {env_name!r} needs the models of MuJoCo Menagerie, which Playground would "
            f"download; put a clone of that repository at {MENAGERIE_PATH}, or take one of "
            f"{', '.join(dm_control_suite.ALL_ENVS)}"
        )
    with quiet():
        env = registry.load(env_name, config_overrides={"impl": implementation})

    def reset(key: Array) -> tuple[Any, Array]:
        state = env.reset(key)
        return state, state.obs

    def step(state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        state = env.step(state, action)
        return state, state.obs, state.reward.astype(jnp.float32), state.done.astype(bool)

    return Environment(reset, step, env.action_size, f"env_name {env_name!r} of Playground")
