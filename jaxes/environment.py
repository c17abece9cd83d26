"""What the rollout knows of an environment: two pure functions, into which any physics fits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import brief, check

EnvState = Any


class Environment(NamedTuple):
    """One episode's physics, pure and for a single episode; the engine batches it.

    Attributes:
      reset: `(key) -> (env_state, observation [O])`.
      step: `(env_state, action [A]) -> (env_state, observation [O], reward [], done bool [])`.
      action_size: A.
      name: what error messages call it.
    """

    reset: Callable[[Array], tuple[EnvState, Array]]
    step: Callable[[EnvState, Array], tuple[EnvState, Array, Array, Array]]
    action_size: int
    name: str = "environment"


def observation_size(environment: Environment) -> int:
    """O, after a look at what the environment's functions return. Nothing is computed.

    Raises:
      ValueError: `reset` or `step` fails, or returns something else than `Environment` says.
    """
    name = environment.name
    check("environment", environment, isinstance(environment, Environment), "an Environment")
    start = _trace(f"{name}: reset(key)", environment.reset, jax.random.key(0))
    _check_parts(f"{name}: reset(key)", start, "(env_state, observation)")
    env_state, observation = start
    _check_array(f"{name}: reset's observation", observation, 1, jnp.floating, "[O], of floats")

    action = jax.ShapeDtypeStruct((environment.action_size,), jnp.float32)
    after = _trace(f"{name}: step(env_state, action)", environment.step, env_state, action)
    _check_parts(f"{name}: step", after, "(env_state, observation, reward, done)")
    new_state, new_observation, reward, done = after
    for what, before, now in [
        ("env_state", env_state, new_state),
        ("observation", observation, new_observation),
    ]:
        same = _kind(before) == _kind(now)
        check(f"{name}: step's {what}", _show(now), same, f"like reset's, {_show(before)}")
    _check_array(f"{name}: step's reward", reward, 0, jnp.floating, "[], a float")
    _check_array(f"{name}: step's done", done, 0, jnp.bool_, "[], a bool")
    return observation.shape[0]


def _trace(what: str, fn: Callable, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(fn, *arguments)
    except Exception as error:
        raise ValueError(f"{what} fails: {brief(error)}") from error


def _check_parts(what: str, value: Any, allowed: str) -> None:
    ok = isinstance(value, tuple) and len(value) == allowed.count(",") + 1
    check(what, _show(value), ok, f"a tuple {allowed}")


def _check_array(what: str, value: Any, ndim: int, kind: Any, allowed: str) -> None:
    ok = hasattr(value, "ndim") and value.ndim == ndim and jnp.issubdtype(value.dtype, kind)
    check(what, _show(value), ok, allowed)


def _kind(tree: Any) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _show(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree))[:200]
