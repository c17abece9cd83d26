"""A cart balances a pole: CartPole-v1 with a continuous force.

Barto, Sutton & Anderson (1983), "Neuronlike adaptive elements that can solve difficult learning
control problems", in the form and with the constants of Gymnasium's `cartpole.py`.
"""

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

FORCE = 10.0  # at an action of 1, N
TAU = 0.02  # a step, s
MAX_X, MAX_THETA = 2.4, math.radians(12)  # the episode ends beyond
NUM_STEPS = 200


class System(NamedTuple):
    """What may be randomized."""

    gravity: Array | float = 9.8  # m/s²
    cart_mass: Array | float = 1.0  # kg
    pole_mass: Array | float = 0.1  # kg
    half_length: Array | float = 0.5  # of the pole, m


class State(NamedTuple):
    x: Array  # of the cart, m
    x_dot: Array  # m/s
    theta: Array  # of the pole from upright, rad
    theta_dot: Array  # rad/s
    steps: Array  # done so far, int32


@recorded()
def continuous_cartpole() -> Environment:
    """CartPole-v1 with a continuous force: a cart balances a pole; at most 200.

    With force F = 10·a, for the action a [1] clipped to [-1, 1], the pole's half length l, its mass
    m and the total mass M, a step is one of explicit Euler, of 0.02 s, of

        t   = (F + m l θ̇² sin θ) / M
        θ̈  = (g sin θ - cos θ t) / (l (4/3 - m cos² θ / M))
        ẍ   = t - m l θ̈ cos θ / M

    The observation [4] is (x, ẋ, θ, θ̇) in m, m/s, rad and rad/s; each starts uniform in ±0.05. A
    step's reward is 1. The episode ends beyond |x| > 2.4 m or |θ| > 12°, which `done_fn` tells, and
    after 200 steps.

    Example:
      >>> environment = jaxes.environments.continuous_cartpole()
    """
    return _with_system(System())


def _with_system(system: System) -> Environment:
    return Environment(
        _reset,
        partial(_step, system),
        action_size=1,
        name="continuous_cartpole",
        reward_fn=_seen_reward,
        done_fn=_seen_end,
        dt=TAU,
        render=render,
        system=system,
        with_system=_with_system,
    )


def _reset(key: Array) -> tuple[State, Array]:
    observation = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
    x, x_dot, theta, theta_dot = observation
    return State(x, x_dot, theta, theta_dot, jnp.zeros((), jnp.int32)), observation


def _step(system: System, state: State, action: Array) -> tuple[State, Array, Array, Array]:
    gravity, cart, pole, length = system
    total = cart + pole
    x, x_dot, theta, theta_dot, steps = state
    force = FORCE * jnp.clip(action[0], -1, 1)
    sin, cos = jnp.sin(theta), jnp.cos(theta)
    t = (force + pole * length * theta_dot**2 * sin) / total
    theta_acc = (gravity * sin - cos * t) / (length * (4 / 3 - pole * cos**2 / total))
    x_acc = t - pole * length * theta_acc * cos / total
    state = State(
        x=x + TAU * x_dot,
        x_dot=x_dot + TAU * x_acc,
        theta=theta + TAU * theta_dot,
        theta_dot=theta_dot + TAU * theta_acc,
        steps=steps + 1,
    )
    done = _has_failed(state.x, state.theta) | (state.steps >= NUM_STEPS)
    return state, jnp.stack(state[:4]), jnp.ones(()), done


def _seen_reward(observation: Array, action: Array, next_observation: Array) -> Array:
    del observation, action, next_observation
    return jnp.ones(())


def _seen_end(next_observation: Array) -> Array:
    x, _, theta, _ = next_observation
    return _has_failed(x, theta)


def _has_failed(x: Array, theta: Array) -> Array:
    return (jnp.abs(x) > MAX_X) | (jnp.abs(theta) > MAX_THETA)


def render(states: Any, width: int, height: int) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, pictures of states that have `x` and `theta`, `[T]` each."""
    seen = {"center": (0.0, 0.3), "reach": (MAX_X + 0.4, 1.0)}
    return sketched(_draw, states, width, height, **seen)


def _draw(sketch: Sketch, state: Any) -> None:
    x, theta = float(state.x), float(state.theta)
    sketch.rod((-MAX_X, 0.0), (MAX_X, 0.0), 0.04, FAINT)
    sketch.box((x, 0.0), (0.7, 0.4), INK)
    length = 2 * float(System().half_length)
    tip = x + length * math.sin(theta), length * math.cos(theta)
    sketch.rod((x, 0.0), tip, 0.12, ACCENT)
    sketch.disc((x, 0.0), 0.06, FAINT)
