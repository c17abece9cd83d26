"""What an environment is: two pure functions, into which any physics fits."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import brief, check, check_count, kinds, show

EnvState = Any


class Environment(NamedTuple):
    """One episode's physics, pure and for a single episode; the engine batches it.

    Attributes:
      reset: `(key) -> (env_state, observation [O])`.
      step: `(env_state, action) -> (env_state, observation [O], reward [], done bool [])`. The
        action is `[A]`, a policy's outputs; where `num_actions` is given, the int32 index [] of the
        greatest of so many outputs.
      action_size: A, the numbers of a continuous action.
      name: what error messages call it.
      num_actions: how many discrete actions there are, in place of `action_size`.
      spec: what a config says of it, or None (see `jaxes.specs`).
    """

    reset: Callable[[Array], tuple[EnvState, Array]]
    step: Callable[[EnvState, Array], tuple[EnvState, Array, Array, Array]]
    action_size: int | None = None
    name: str = "environment"
    num_actions: int | None = None
    spec: Mapping[str, Any] | None = None

    @property
    def num_outputs(self) -> int:
        """How many outputs a policy has here."""
        return self.action_size or self.num_actions or 0

    def action(self, outputs: Array) -> Array:
        """What `step` is given for a policy's outputs."""
        return outputs if self.num_actions is None else jnp.argmax(outputs).astype(jnp.int32)


def observation_size(environment: Environment) -> int:
    """O, after a look at what the environment's functions return. Nothing is computed.

    Raises:
      ValueError: not one of `action_size` and `num_actions` is given, `reset` or `step` fails, or
        returns something else than `Environment` says.
    """
    check("environment", environment, isinstance(environment, Environment), "an Environment")
    name = environment.name
    _check_actions(environment)
    start = _trace(f"{name}: reset(key)", environment.reset, jax.random.key(0))
    _check_parts(f"{name}: reset(key)", start, "(env_state, observation)")
    env_state, observation = start
    _check_array(f"{name}: reset's observation", observation, 1, jnp.floating, "[O], of floats")

    outputs = jax.ShapeDtypeStruct((environment.num_outputs,), jnp.float32)
    action = jax.eval_shape(environment.action, outputs)
    after = _trace(f"{name}: step(env_state, action)", environment.step, env_state, action)
    _check_parts(f"{name}: step", after, "(env_state, observation, reward, done)")
    new_state, new_observation, reward, done = after
    for part, before, now in [
        ("env_state", env_state, new_state),
        ("observation", observation, new_observation),
    ]:
        same = kinds(before) == kinds(now)
        check(f"{name}: step's {part}", show(now), same, f"like reset's, {show(before)}")
    _check_array(f"{name}: step's reward", reward, 0, jnp.floating, "[], a float")
    _check_array(f"{name}: step's done", done, 0, jnp.bool_, "[], a bool")
    return observation.shape[0]


def _check_actions(environment: Environment) -> None:
    given = {"action_size": environment.action_size, "num_actions": environment.num_actions}
    counts = {field: count for field, count in given.items() if count is not None}
    fields = f"{environment.name}: action_size or num_actions"
    check(fields, given, len(counts) == 1, "given, one of them")
    for field, count in counts.items():
        check_count(f"{environment.name}: {field}", count)


def _trace(what: str, fn: Callable, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(fn, *arguments)
    except Exception as error:
        raise ValueError(f"{what} fails: {brief(error)}") from error


def _check_parts(what: str, value: Any, allowed: str) -> None:
    ok = isinstance(value, tuple) and len(value) == allowed.count(",") + 1
    check(what, show(value), ok, f"a tuple {allowed}")


def _check_array(what: str, value: Any, ndim: int, kind: Any, allowed: str) -> None:
    ok = hasattr(value, "ndim") and value.ndim == ndim and jnp.issubdtype(value.dtype, kind)
    check(what, show(value), ok, allowed)
