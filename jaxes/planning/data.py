"""What a model learns from: transitions, in a buffer of a fixed capacity."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Transitions(NamedTuple):
    """The last C transitions at most; `stored` adds some, `total` says how many there ever were.

    Row i holds number i of them, or i + C, or i + 2 C ...; rows from `num_rows` on hold nothing.
    """

    observations: Array  # [C, O]
    actions: Array  # [C, A]
    rewards: Array  # [C]
    next_observations: Array  # [C, O]
    dones: Array  # bool [C]
    total: Array  # int32 []

    @property
    def num_rows(self) -> Array:
        """How many rows hold something, int32 `[]`."""
        return jnp.minimum(self.total, self.rewards.shape[-1])


def no_transitions(capacity: int, observation_size: int, action_size: int) -> Transitions:
    observations = jnp.zeros((capacity, observation_size), jnp.float32)
    return Transitions(
        observations=observations,
        actions=jnp.zeros((capacity, action_size), jnp.float32),
        rewards=jnp.zeros(capacity, jnp.float32),
        next_observations=jnp.copy(observations),
        dones=jnp.zeros(capacity, bool),
        total=jnp.zeros((), jnp.int32),
    )


def stored(data: Transitions, new: Transitions, valid: Array) -> Transitions:
    """The buffer with those of the new rows that are valid, bool `[T]`; T is at most C."""
    capacity = data.rewards.size
    place = (data.total + jnp.cumsum(valid, dtype=jnp.int32) - 1) % capacity
    place = jnp.where(valid, place, capacity)  # which is none

    def put(rows: Array, added: Array) -> Array:
        return rows.at[place].set(added.astype(rows.dtype), mode="drop")

    total = data.total + jnp.sum(valid, dtype=jnp.int32)
    rows = {name: put(getattr(data, name), getattr(new, name)) for name in data._fields[:-1]}
    return Transitions(**rows, total=total)
