"""Small environments with a system, whose episodes can be played by hand, and how."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxes
from jaxes.core import Population

NUM_STEPS = 5
SETTINGS = {
    "episode_length": NUM_STEPS,
    "num_test_episodes": 6,
    "normalize_observations": False,
}


class Wind(NamedTuple):
    push: Any = 1.0
    drift: Any = 0.25


def wind(system: Wind = Wind()) -> jaxes.Environment:  # noqa: B008
    """A point is blown about; it earns its position."""

    def reset(key):
        x = jax.random.normal(key, (1,))
        return x, jnp.append(x, 1.0)

    def step(x, action):
        x = x + system.push * action[:1] + system.drift
        return x, jnp.append(x, 1.0), x[0], jnp.bool_(False)

    return jaxes.Environment(reset, step, 1, "wind", system=system, with_system=wind)


class Stairs(NamedTuple):
    height: Any = 0.5


def stairs(system: Stairs = Stairs()) -> jaxes.Environment:  # noqa: B008
    """What is seen counts down, and each action is a height climbed."""

    def reset(key):
        left = jax.random.uniform(key)
        return left, jnp.stack([left, -left])

    def step(left, action):
        return left - 1, jnp.stack([left - 1, 1 - left]), system.height * action[0], left < -2

    return jaxes.Environment(reset, step, 1, "stairs", system=system, with_system=stairs)


class Members(NamedTuple):
    """A population that is given: `[N, D]`."""

    mean: jax.Array
    members: jax.Array


def _ask(key, state, members=None):
    return state.members if members is None else state.members[members]


def population_of(members) -> Population:
    members = jnp.asarray(members, jnp.float32)
    return Population(_ask, jax.random.key(0), Members(members.mean(axis=0), members), len(members))


def spread(num_members=4, size=2):
    """Different members."""
    return np.linspace(-0.4, 0.5, num_members * size, dtype=np.float32).reshape(num_members, size)


def key_of(key, episode, queue=0):
    """Of an episode of a queue, in a generation of this key."""
    apart = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), queue) if queue else key
    return jax.random.fold_in(apart, episode)


def number_of(key, part, low, high):
    """What part of a randomizer draws in an episode of this key."""
    key = jax.random.fold_in(jax.random.fold_in(key, 2**32 - 1), part)
    return float(jax.random.uniform(key, minval=low, maxval=high))


_STEPS = {
    "wind": jax.jit(lambda system, x, action: wind(system).step(x, action)),
    "stairs": jax.jit(lambda system, x, action: stairs(system).step(x, action)),
}


def return_of(environment, key, member, *, system=None, see=lambda observation: observation):
    """Of an episode of a linear policy (output 'none'), played step by step."""
    system = environment.system if system is None else system
    state, observation = environment.with_system(system).reset(key)
    total, length, done = 0.0, 0, False
    while not done and length < NUM_STEPS:
        action = jnp.dot(see(observation), member)[None]
        state, observation, reward, done = _STEPS[environment.name](system, state, action)
        total, length = total + float(reward), length + 1
    return total
