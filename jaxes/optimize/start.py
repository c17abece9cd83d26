"""One start of a search: generations until the target is reached, or a criterion is met."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check
from jaxes.core import State, Strategy
from jaxes.optimize.bounds import Box
from jaxes.optimize.space import flat
from jaxes.search import Search, SearchState, advance, begin, told, without_nan

REASONS = ("none", "target", "tolfunhist", "tolfun", "tolx", "tolfacupx", "condition")


class Termination(NamedTuple):
    """When a start has converged, or never will; 0, or infinity for the last two, turns one off.

    Attributes:
      tolfun: range of the best values of the last 10 + 30 D/N generations and of all values of this
        one.
      tolfunhist: range of those best values.
      tolx: root mean square of the members' steps from the mean, relative to the first
        generation's.
      tolfacupx: the same, if it grew by this factor: the search diverges.
      condition: condition number of the covariance, for strategies that have axes `D` or `std`.

    The criteria and defaults are pycma's.
    """

    tolfun: float = 1e-11
    tolfunhist: float = 1e-12
    tolx: float = 1e-11
    tolfacupx: float = 1e3
    condition: float = 1e14


TERMINATION = Termination()


def check_termination(termination: Any) -> None:
    check("termination", termination, isinstance(termination, Termination), "a jaxes.Termination")
    for name, value in termination._asdict().items():
        valid = isinstance(value, float | int) and value >= 0
        check(f"termination.{name}", value, valid, "a number of at least 0, or infinity")


class Setting(NamedTuple):
    """What stays the same during one start.

    Attributes:
      strategy: of vectors u.
      scale: [D], with
      box: the bounds, the map from u to x (see `Space`).
      fitness_fn: `(x [D]) -> fitness []`; not called where the fitness comes from the host.
      target: `[]`; NaN for none.
      termination: its numbers, traced.
      size: int32 `[]`: how many members are real. Of a padded population, the first ones.
      padded: whether there may be others.
    """

    strategy: Strategy
    scale: Array
    box: Box | None
    fitness_fn: Callable[[Array], Any]
    target: Array
    termination: Termination
    size: Array
    padded: bool

    def flat(self, u: Array) -> Array:
        """x of u `[D]`."""
        return flat(self.scale, self.box, u)

    def search(self) -> Search:
        """The search, in which members are vectors x within the bounds."""

        def ask(key: Array, state: State, members: Array | None = None) -> Array:
            return jax.vmap(self.flat)(self.strategy.ask(key, state, members))

        in_bounds = self.strategy._replace(ask=ask)
        return Search(in_bounds, self.fitness_fn, self.size if self.padded else None)


class StartState(NamedTuple):
    """One start, as far as it has come."""

    search: SearchState
    history: Array  # [10 + 30 D/N], best values of the last generations; more where N may be less
    first_spread: Array  # [], root mean square of the first generation's steps
    reason: Array  # int32 [], an index of REASONS


def memory(dim: int, population_size: Any) -> Any:
    """The generations in which a start looks for progress: 10 + ⌈30 D/N⌉."""
    return 10 - (-30 * dim // population_size)


def begin_start(setting: Setting, u: Array, length: int) -> StartState:
    """The state before the first generation, with room for `length` best values."""
    return StartState(
        search=begin(setting.search(), u)._replace(best=setting.flat(u)),
        history=jnp.zeros((length,), u.dtype),
        first_spread=jnp.zeros((), u.dtype),
        reason=jnp.zeros((), jnp.int32),
    )


def next_generation(setting: Setting, key: Array, progress: StartState) -> StartState:
    """The state after one more generation, which draws from `key`."""
    state, fitness = advance(setting.search(), key, progress.search)
    return _follow(setting, key, progress, state, fitness)


def tell_start(
    setting: Setting, key: Array, progress: StartState, x: Array, fitness: Array
) -> StartState:
    """The same, for members `x [N, D]` whose fitness `[N]` was computed elsewhere."""
    # The rows that were evaluated: one asked for alone can differ in its last bits.
    strategy = setting.search().strategy
    state = told(strategy, key, progress.search, fitness, lambda member: x[member])
    return _follow(setting, key, progress, state, fitness)


def _follow(
    setting: Setting, key: Array, before: StartState, search: SearchState, fitness: Array
) -> StartState:
    """The progress after a generation that drew from `key`, with a reason to stop if there is."""
    strategy, state = setting.strategy, before.search.strategy
    few = jnp.arange(min(strategy.population_size, 8), dtype=jnp.int32)
    spread = jnp.sqrt(jnp.mean((strategy.ask(key, state, few) - state.mean[None]) ** 2))
    judged = without_nan(fitness)
    best = judged[jnp.argmax(judged)]
    if setting.padded:  # those that are not real are as good as the best
        judged = jnp.where(jnp.arange(judged.size, dtype=jnp.int32) < setting.size, judged, best)
    progress = StartState(
        search=search,
        history=jnp.roll(before.history, 1).at[0].set(best),
        first_spread=jnp.where(before.first_spread > 0, before.first_spread, spread),
        reason=before.reason,
    )
    return progress._replace(reason=_reason(setting, progress, judged, spread))


def _reason(setting: Setting, progress: StartState, judged: Array, spread: Array) -> Array:
    """The index in REASONS of the first criterion that is met; 0 if none is."""
    limits, search, history = setting.termination, progress.search, progress.history
    length = memory(search.best.size, setting.size)
    recent = jnp.arange(history.size, dtype=jnp.int32) < length
    low = jnp.min(history, where=recent, initial=jnp.inf)
    high = jnp.max(history, where=recent, initial=-jnp.inf)
    low_now, high_now = jnp.minimum(low, jnp.min(judged)), jnp.maximum(high, jnp.max(judged))
    full = search.generation >= length
    # Infinities have no range; where there is nothing else, it is zero.
    range_before = jnp.where(high > low, high - low, 0)
    range_now = jnp.where(high_now > low_now, high_now - low_now, 0)
    moving = progress.first_spread > 0
    growth = spread / jnp.where(moving, progress.first_spread, 1)
    met = [
        jnp.zeros((), bool),
        search.best_fitness >= setting.target,
        full & (range_before < limits.tolfunhist),
        full & (range_now < limits.tolfun),
        moving & (growth < limits.tolx),
        moving & (growth > limits.tolfacupx),
        _condition(search.strategy) > limits.condition,
    ]
    return jnp.argmax(jnp.stack(met)).astype(jnp.int32)


def _condition(state: State) -> Array:
    """The condition number of the covariance, if the state has its axes `D` or `std`; or 1."""
    axes = getattr(state, "D", getattr(state, "std", jnp.ones(1)))
    return (jnp.max(axes) / jnp.min(axes)) ** 2
