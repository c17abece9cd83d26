"""MuJoCo Playground. The only module that imports it, and only when an environment is made."""

import contextlib
import copy
import io
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check_name, check_package
from jaxes.environments.base import Environment, WithSystem
from jaxes.environments.constants import with_plain_numbers
from jaxes.environments.mujoco_frames import drawn
from jaxes.environments.quiet import quiet
from jaxes.specs import recorded

Implementation = Literal["jax", "warp"]


@recorded()
def playground(env_name: str, implementation: Implementation | None = None) -> Environment:
    """An environment of MuJoCo Playground.

    Needs `pip install -e '.[playground]'`. The DeepMind control suite works as installed; the
    models of locomotion and manipulation are a repository that Playground would download, and
    are refused where that is not there yet: jaxes downloads nothing.

    Args:
      env_name: an entry of `mujoco_playground.registry.ALL_ENVS`.
      implementation: of MuJoCo's physics; `warp` where there is a GPU, `jax` elsewhere.

    Raises:
      ValueError: an unknown environment, one whose model is not there, or Playground is not
        installed.

    Example:
      >>> environment = jaxes.environments.playground("CartpoleBalance")
    """
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

    def render(states: Any, width: int, height: int) -> np.ndarray:
        names = ("qpos", "mocap_pos", "mocap_quat")
        return drawn(
            env.mj_model, {name: getattr(states.data, name) for name in names}, width, height
        )

    return _with_system(env, env.mjx_model)._replace(
        name=f"env_name {env_name!r} of Playground",
        dt=float(env.dt),
        render=render,
        system=env.mjx_model,
        with_system=WithSystem((env_name, implementation), partial(_with_system, env)),
    )


def _with_system(env: Any, system: Any) -> Environment:
    env = copy.copy(env)  # what is traced must not stay in the original
    # Set as by Playground's own wrapper for randomization.
    env._mjx_model = with_plain_numbers(system)
    return _bare(env)


def _bare(env: Any) -> Environment:
    def reset(key: Array) -> tuple[Any, Array]:
        state = env.reset(key)
        return state, state.obs

    def step(state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        state = env.step(state, action)
        return state, state.obs, state.reward.astype(jnp.float32), state.done.astype(bool)

    return Environment(reset, step, env.action_size, with_key=_with_key)


def _with_key(state: Any, key: Array) -> Any:
    # Playground keeps the key of `reset` here, in the form that it was given, and draws from
    # nothing else; a state without it has no noise to come.
    return state.replace(info={**state.info, "rng": key}) if "rng" in state.info else state
