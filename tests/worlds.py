"""Small environments and models that planners are tried on."""

import jax
import jax.numpy as jnp

import jaxes
from jaxes.planning import Model

DT = 0.2


def point(num_steps: int = 50) -> jaxes.Environment:
    """A point on a line, pushed: a double integrator that is to be at 0."""

    def reset(key):
        x = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return (x, jnp.int32(0)), x

    def step(state, action):
        (position, speed), steps = state
        speed = speed + DT * jnp.clip(action[0], -1, 1)
        x = jnp.stack([position + DT * speed, speed])
        reward = -(x[0] ** 2) - 0.1 * x[1] ** 2 - 0.01 * action[0] ** 2
        return (x, steps + 1), x, reward, steps + 1 >= num_steps

    return jaxes.Environment(reset, step, 1, "point")


def line(step=None) -> Model:
    """x' = x + a, reward -(x' - 3)², as a model alone; or with another `(x, action)` to
    `(x, observation, reward, done)`."""

    def add(x, action):
        x = x + action[0]
        return x, x[None], -((x - 3.0) ** 2), jnp.bool_(False)

    chosen = step or add
    return Model(
        lambda member, x, action, key: chosen(x, action), action_size=1, observation_size=1
    )
