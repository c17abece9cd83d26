"""An environment whose episodes can be computed by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxes.environments import Environment

EPISODE_LENGTH = 20


class Walk(NamedTuple):
    position: jax.Array
    steps_left: jax.Array
    key: jax.Array  # unused: an environment with noise would keep one


def walk(breaks_at=None, limit=np.inf):
    """A point that moves by the action; an episode has 1 to 30 steps, drawn from its key.

    The reward is the new position; at `breaks_at` steps left it is NaN, and
    beyond `limit` the observation is as well.
    """

    def observe(state):
        return jnp.stack([state.position, state.steps_left.astype(jnp.float32)])

    def reset(key):
        position_key, length_key = jax.random.split(key)
        state = Walk(
            jax.random.normal(position_key), jax.random.randint(length_key, (), 1, 31), key
        )
        return state, observe(state)

    def step(state, action):
        state = Walk(state.position + action[0], state.steps_left - 1, state.key)
        reward = state.position
        if breaks_at is not None:
            reward = jnp.where(state.steps_left == breaks_at, jnp.nan, reward)
        observation = jnp.where(jnp.abs(state.position) > limit, jnp.nan, observe(state))
        return state, observation, reward, state.steps_left == 0

    return Environment(reset, step, action_size=1)
