"""Trials: what `jax.vmap` of an update step does, so that many runs are one program.

A trial is one run of many side by side: its own key, state and hyperparameters. Batching everything
would put trials in lock step, because a batched loop runs until its last one is done, and would
change last bits, because a batched product is another product. So here the two parts of a
generation say themselves what is done with a batch of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.core import TRAIN, Evaluate, Evaluation, Population, State, Strategy


def vmapped_into_one_queue(evaluate: Callable[..., Evaluation]) -> Evaluate:
    """An `Evaluate` from one of stacked trials, whose episodes share one queue.

    Args:
      evaluate: `(keys, populations, problem_states, phases) -> evaluations`, each leaf with the
        leading axis [T]; called with T = 1 outside of vmap. Nested vmaps are one stack.
    """
    # `single` is a run's: it adds the axis T = 1. A vmap of it hands its trials to `stacked`, as
    # they are; a vmap of that, which is a vmap of vmaps, makes of its two axes one. So `evaluate`
    # itself is never vmapped.

    @jax.custom_batching.custom_vmap
    def stacked(*trials: Any) -> Evaluation:
        return evaluate(*trials)

    @stacked.def_vmap
    def flatten(size: int, batched: list, *stacks: Any) -> tuple[Evaluation, Any]:
        whole = broadcast(size, batched, stacks)
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), whole)
        out = jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:]), stacked(*flat))
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_batching.custom_vmap
    def single(*trial: Any) -> Evaluation:
        stack = jax.tree.map(lambda leaf: leaf[None], trial)
        return jax.tree.map(lambda leaf: leaf[0], stacked(*stack))

    @single.def_vmap
    def stack_up(size: int, batched: list, *trials: Any) -> tuple[Evaluation, Any]:
        out = stacked(*broadcast(size, batched, trials))
        return out, jax.tree.map(lambda _: True, out)

    def evaluate_one(
        key: Array, population: Population, problem_state: State, phase: Any = TRAIN
    ) -> Evaluation:
        return single(key, population, problem_state, jnp.asarray(phase, jnp.int32))

    return evaluate_one


def vmapped_one_by_one(strategy: Strategy, exact: bool = True) -> Strategy:
    """The strategy, but the devices of a mesh divide the trials that tell.

    Exact trials ask and tell one after another: each has the bits of a run alone. Without that they
    are batched: many small searches are faster, and differ in last bits.
    """

    @jax.custom_batching.custom_vmap
    def tell(key: Array, state: State, fitness: Array) -> State:
        return strategy.tell(key, state, fitness)

    @tell.def_vmap
    def divide_trials(size: int, is_batched: list, *trials: Any) -> tuple[State, Any]:
        rows = broadcast(size, is_batched, trials)
        out = parallel.map_divided(lambda trial: strategy.tell(*trial), rows, batched=not exact)
        return out, jax.tree.map(lambda _: True, out)

    # Not divided: a device may ask for other members than the next one does.
    ask_members = jax.custom_batching.sequential_vmap(strategy.ask) if exact else strategy.ask

    def ask(key: Array, state: State, members: Array | None = None) -> Array:
        if members is None:
            members = jnp.arange(strategy.population_size, dtype=jnp.int32)
        return ask_members(key, state, members)

    return strategy._replace(ask=ask, tell=tell)


def of_trial(stack: Any, trial: Array | int) -> Any:
    """The row or rows `trial` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[trial], stack)


def broadcast(size: int, batched: list, arguments: tuple) -> tuple:
    """Every leaf with the leading axis [size], those repeated that are not batched."""

    def stack(is_batched: bool, leaf: Array) -> Array:
        return leaf if is_batched else jnp.broadcast_to(leaf[None], (size, *leaf.shape))

    return jax.tree.map(stack, tuple(batched), arguments)
