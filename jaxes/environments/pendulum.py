"""A pendulum swings up and stays: Pendulum-v1, with the constants of Gymnasium's `pendulum.py`."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.environments.base import Environment
from jaxes.environments.sketch import ACCENT, FAINT, INK, Sketch, sketched
from jaxes.specs import recorded

DT = 0.05  # a step, s
MAX_SPEED, MAX_TORQUE = 8.0, 2.0  # rad/s, N m
NUM_STEPS = 200


class System(NamedTuple):
    """What may be randomized."""

    gravity: Array | float = 10.0  # m/s²
    mass: Array | float = 1.0  # kg
    length: Array | float = 1.0  # m


class State(NamedTuple):
    theta: Array  # angle from upright, not wrapped, rad
    theta_dot: Array  # rad/s
    steps: Array  # done so far, int32


@recorded()
def pendulum() -> Environment:
    """Pendulum-v1: a pendulum swings up, by a torque too weak to lift it at once.

    With torque u = 2·a, for the action a [1] clipped to [-1, 1], a step of dt = 0.05 s is

        θ̇' = clip(θ̇ + (3g/(2l) sin θ + 3/(m l²) u) dt, -8, 8)
        θ'  = θ + θ̇' dt

    The observation [3] is (cos θ, sin θ, θ̇). The reward is -(θ² + 0.1 θ̇² + 0.001 u²), with θ
    wrapped to [-π, π), of the state before the step, as in Gymnasium. θ starts uniform in [-π, π],
    θ̇ in [-1, 1]. The episode ends after 200 steps and nowhere else, so that `done_fn` is False.

    Example:
      >>> environment = jaxes.environments.pendulum()
    """
    return _with_system(System())


def _with_system(system: System) -> Environment:
    return Environment(
        _reset,
        partial(_step, system),
        action_size=1,
        name="pendulum",
        reward_fn=_seen_reward,
        done_fn=_never,
        dt=DT,
        render=render,
        system=system,
        with_system=_with_system,
    )


def _reset(key: Array) -> tuple[State, Array]:
    high = jnp.array([math.pi, 1.0])
    theta, theta_dot = jax.random.uniform(key, (2,), minval=-high, maxval=high)
    state = State(theta, theta_dot, jnp.zeros((), jnp.int32))
    return state, _observe(state)


def _step(system: System, state: State, action: Array) -> tuple[State, Array, Array, Array]:
    # Few operations, each elementwise: a planner runs this millions of times a second.
    gravity, mass, length = system
    theta, theta_dot, steps = state
    u = _torque(action)
    acceleration = 1.5 * gravity / length * jnp.sin(theta) + 3 / (mass * length**2) * u
    new_theta_dot = jnp.clip(theta_dot + DT * acceleration, -MAX_SPEED, MAX_SPEED)
    after = State(theta + DT * new_theta_dot, new_theta_dot, steps + 1)
    # A floor is cheaper than the remainder of a division.
    wrapped = theta - 2 * math.pi * jnp.floor(theta / (2 * math.pi) + 0.5)
    return after, _observe(after), _reward(wrapped, theta_dot, u), after.steps >= NUM_STEPS


def _torque(action: Array) -> Array:
    return MAX_TORQUE * jnp.clip(action[0], -1, 1)


def _observe(state: State) -> Array:
    return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot])


def _reward(theta: Array, theta_dot: Array, u: Array) -> Array:
    return -(theta**2 + 0.1 * theta_dot**2 + 0.001 * u**2)


def _seen_reward(observation: Array, action: Array, next_observation: Array) -> Array:
    del next_observation
    cos, sin, theta_dot = observation
    return _reward(jnp.arctan2(sin, cos), theta_dot, _torque(action))


def _never(next_observation: Array) -> Array:
    del next_observation
    return jnp.zeros((), bool)


def render(states: Any, width: int, height: int) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, pictures of states that have `theta` `[T]`, counted to the left."""
    seen = {"center": (0.0, 0.0), "reach": (1.3, 1.3)}
    return sketched(_draw, states, width, height, **seen)


def _draw(sketch: Sketch, state: Any) -> None:
    theta = float(state.theta)
    tip = -math.sin(theta), math.cos(theta)
    sketch.disc((0.0, 0.0), 0.12, FAINT)
    sketch.rod((0.0, 0.0), tip, 0.14, ACCENT)
    sketch.disc((0.0, 0.0), 0.05, INK)
