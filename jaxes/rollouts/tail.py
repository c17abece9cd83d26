"""The tail of a rollout: the last jobs, in blocks of few lanes.

When the queue is empty and few jobs are left, wide steps would be spent on empty lanes. The last
jobs are therefore moved together into blocks, and only blocks that hold a job step on.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

BLOCK_STEPS = 25  # of one block before the next one's turn
NO_BOUND = jnp.iinfo(jnp.int32).max
Lanes = Any  # a NamedTuple of arrays with the field `active` [L]
Carry = tuple[Lanes, Array]


def run_blocks(
    step: Callable[[Lanes], Lanes],
    lanes: Lanes,
    size: int,
    lane_steps: Array,
    take: Callable[[Lanes, Array], Lanes],
    put: Callable[[Lanes, Array, Lanes], Lanes],
) -> tuple[Lanes, Array]:
    """Steps lanes until none is active.

    Args:
      step: one step of any number of lanes.
      lanes: all that are left.
      size: lanes of a block.
      lane_steps: float32 [], to which those done here are added.
      take: `(lanes [L], which [M]) -> lanes [M]`.
      put: `(lanes [L], which [M], lanes [M]) -> lanes [L]`, without those of which there are none.
    """

    def run_block(carry: Carry, i: Array, bound: Array) -> Carry:
        lanes, lane_steps = carry
        which = i * size + jnp.arange(size)
        block, steps = jax.lax.while_loop(
            lambda carry: jnp.any(carry[0].active) & (carry[1] < bound),
            lambda carry: (step(carry[0]), carry[1] + 1),
            (take(lanes, which), jnp.zeros((), jnp.int32)),
        )
        return put(lanes, which, block), lane_steps + steps.astype(jnp.float32) * size

    def run_each_block(carry: Carry) -> Carry:
        lanes, lane_steps = carry
        lanes = take(lanes, jnp.argsort(~lanes.active))  # the active ones come first
        num_blocks = -(-jnp.sum(lanes.active) // size)
        bound = jnp.where(num_blocks > 1, BLOCK_STEPS, NO_BOUND)
        return jax.lax.fori_loop(
            0, num_blocks, lambda i, carry: run_block(carry, i, bound), (lanes, lane_steps)
        )

    return jax.lax.while_loop(
        lambda carry: jnp.any(carry[0].active), run_each_block, (lanes, lane_steps)
    )
