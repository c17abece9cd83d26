"""Optimizers of a mean: functions from a learning rate to an optax transformation, by name."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxes.checks import check, check_name

Optimizer = Callable[[ArrayLike], optax.GradientTransformation]  # from its learning rate
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "lion", "clipup"]


class ClipUpState(NamedTuple):
    """What ClipUp keeps from step to step: the velocity v, a pytree like the parameters."""

    velocity: Any


def clipup(
    learning_rate: ArrayLike, momentum: ArrayLike = 0.9, max_speed: ArrayLike | None = None
) -> optax.GradientTransformation:
    """ClipUp: normalized gradients, momentum, and a bound on the length of a step.

        v ← momentum · v - learning_rate · g/‖g‖
        v ← v · min(1, max_speed/‖v‖)
        x ← x + v

    The length of a step is known in advance, whatever the scale of fitness. All numbers may be
    traced.

    Args:
      learning_rate: length of a step's part that is new.
      momentum: part of the last step that is kept, in [0, 1).
      max_speed: greatest length of a step; twice the learning rate by default, as in the paper.

    Example:
      >>> strategy = jaxes.openai_es(100, optimizer=jaxes.optimizers.clipup)

    Reference: Toklu, Liskowski & Srivastava, ClipUp: a simple and powerful optimizer for
    distribution-based policy evolution (PPSN 2020), arXiv:2008.02387.
    """
    bound = 2 * learning_rate if max_speed is None else max_speed

    def init(params: Any) -> ClipUpState:
        return ClipUpState(jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: ClipUpState, params: Any = None) -> tuple[Any, ClipUpState]:
        length = optax.tree.norm(gradient)
        rate = learning_rate / jnp.where(length > 0, length, 1)
        velocity = jax.tree.map(lambda v, g: momentum * v - rate * g, state.velocity, gradient)
        speed = optax.tree.norm(velocity)
        slower = jnp.minimum(1, bound / jnp.where(speed > 0, speed, 1))
        velocity = jax.tree.map(lambda v: slower * v, velocity)
        return velocity, ClipUpState(velocity)

    return optax.GradientTransformation(init, update)


def ascend(
    optimizer: optax.GradientTransformation, gradient: Array, state: optax.OptState, mean: Array
) -> tuple[Array, optax.OptState]:
    """The mean `[D]` after a step uphill, and the optimizer's state: optax itself descends."""
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to its int32 count
        updates, state = optimizer.update(-gradient, state, mean)
    return optax.apply_updates(mean, updates), state


def resolve(optimizer: Optimizer | str) -> Optimizer:
    """The optimizer of that name (`clipup`, or one of optax's), or the one given.

    Raises:
      ValueError: an unknown name, or no function.
    """
    if isinstance(optimizer, str):
        check_name("optimizer", optimizer, OptimizerName.__args__)  # type: ignore[attr-defined]
        return clipup if optimizer == "clipup" else getattr(optax, optimizer)
    check("optimizer", optimizer, callable(optimizer), "a function of the learning rate")
    return optimizer
