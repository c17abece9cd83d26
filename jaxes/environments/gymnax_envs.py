"""gymnax's environments. gymnax is imported here and in `gymnax_frames` alone, when it is used."""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_name, check_package
from jaxes.environments.base import Environment, WithSystem, flat
from jaxes.environments.gymnax_frames import render_of
from jaxes.specs import recorded


@recorded()
def gymnax(env_name: str, env_params: Mapping[str, Any] | None = None) -> Environment:
    """An environment of gymnax: classic control, bsuite, MinAtar and others.

    Observations are flattened. Discrete actions are `num_actions`; outputs in [-1, 1] are stretched
    to the bounds of continuous ones. An episode ends where the environment ends it, its own time
    limit included.

    Needs `pip install -e '.[gymnax]'`.

    Args:
      env_name: an entry of `gymnax.registered_envs`.
      env_params: fields of the environment's own parameters in place of their defaults, such as
        `{"max_steps_in_episode": 500}`.

    Raises:
      ValueError: an unknown environment, one with other actions, or gymnax is not installed.

    Example:
      >>> environment = jaxes.environments.gymnax("CartPole-v1")
    """
    check_package("env_name", env_name, "gymnax", "pip install -e '.[gymnax]'")
    import gymnax

    check_name("env_name", env_name, gymnax.registered_envs)
    try:
        env, params = gymnax.make(env_name)
    except OSError as error:
        raise ValueError(f"env_name: {env_name!r} wants to download its data: {error}") from error
    given = {} if env_params is None else env_params
    check("env_params", given, isinstance(given, Mapping), "a mapping")
    for field in given:
        check_name("env_params", field, [each.name for each in dataclasses.fields(params)])
    params = params.replace(**given)
    space = env.action_space(params)
    discrete = hasattr(space, "n")
    bounded = hasattr(space, "low") and len(space.shape) <= 1
    check("env_name", env_name, discrete or bounded, "an environment with one action of numbers")
    with_system = WithSystem(env_name, partial(_with_params, env))
    return with_system(params)._replace(
        name=f"env_name {env_name!r} of gymnax",
        dt=getattr(params, "tau", getattr(params, "dt", None)),
        render=render_of(env, params),
        system=params,
        with_system=with_system,
    )


def _with_params(env: Any, params: Any) -> Environment:
    """With what gymnax calls its parameters, the system."""
    space = env.action_space(params)
    discrete = hasattr(space, "n")

    def to_action(outputs: Array) -> Array:
        if discrete:
            return outputs
        stretched = space.low + (jnp.clip(outputs, -1, 1) + 1) / 2 * (space.high - space.low)
        return jnp.reshape(stretched, space.shape)

    def reset(key: Array) -> tuple[Any, Array]:
        reset_key, episode_key = jax.random.split(key)
        observation, state = env.reset_env(reset_key, params)
        return (_strong(state), episode_key), flat(observation)

    def step(state: tuple[Any, Array], action: Array) -> tuple[Any, Array, Array, Array]:
        env_state, episode_key = state
        step_key, episode_key = jax.random.split(episode_key)
        observation, env_state, reward, terminated, _ = env.step_env(
            step_key, env_state, to_action(action), params
        )
        done = terminated | env.is_truncated(env_state, params)
        reward = jnp.asarray(reward, jnp.float32)
        return (_strong(env_state), episode_key), flat(observation), reward, done

    return Environment(
        reset,
        step,
        action_size=None if discrete else math.prod(space.shape),
        num_actions=int(space.n) if discrete else None,
        with_key=_with_key,
    )


def _with_key(state: tuple[Any, Array], key: Array) -> tuple[Any, Array]:
    env_state, _ = state
    return env_state, key


def _strong(state: Any) -> Any:
    """The state as arrays: some environments begin with Python numbers."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)
