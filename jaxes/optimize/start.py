"""One start of a search: generations until the target is reached, or a criterion is met."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check
from jaxes.core import State, Strategy
from jaxes.optimize.space import Space
from jaxes.search import Search, SearchState, advance, begin, check_scalar, told, without_nan

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
    """What stays the same during one start."""

    strategy: Strategy  # of vectors u
    space: Space
    fitness_fn: Callable[[Any], Any]
    target: float | None
    termination: Termination

    def search(self) -> Search:
        """The search, in which members are vectors x within the bounds."""

        def ask(key: Array, state: State, members: Array | None = None) -> Array:
            return jax.vmap(self.space.flat)(self.strategy.ask(key, state, members))

        in_bounds = self.strategy._replace(ask=ask)
        return Search(in_bounds, lambda x: self.fitness_fn(self.space.unravel(x)))


class StartState(NamedTuple):
    """One start, as far as it has come."""

    search: SearchState
    history: Array  # [10 + 30 D/N], best values of the last generations, once there were as many
    first_spread: Array  # [], root mean square of the first generation's steps
    reason: Array  # int32 [], an index of REASONS


def _begin(setting: Setting, u: Array) -> StartState:
    length = 10 + math.ceil(30 * u.size / setting.strategy.population_size)
    return StartState(
        search=begin(setting.search(), u)._replace(best=setting.space.flat(u)),
        history=jnp.zeros((length,), u.dtype),
        first_spread=jnp.zeros((), u.dtype),
        reason=jnp.zeros((), jnp.int32),
    )


def _follow(
    setting: Setting, key: Array, before: StartState, search: SearchState, fitness: Array
) -> StartState:
    """The progress after a generation that drew from `key`, with a reason to stop if there is."""
    strategy, state = setting.strategy, before.search.strategy
    few = jnp.arange(min(strategy.population_size, 8), dtype=jnp.int32)
    spread = jnp.sqrt(jnp.mean((strategy.ask(key, state, few) - state.mean[None]) ** 2))
    judged = without_nan(fitness)
    progress = StartState(
        search=search,
        history=jnp.roll(before.history, 1).at[0].set(judged[jnp.argmax(judged)]),
        first_spread=jnp.where(before.first_spread > 0, before.first_spread, spread),
        reason=before.reason,
    )
    return progress._replace(reason=_reason(setting, progress, judged, spread))


def _reason(setting: Setting, progress: StartState, judged: Array, spread: Array) -> Array:
    """The index in REASONS of the first criterion that is met; 0 if none is."""
    limits, target = setting.termination, setting.target
    search, history = progress.search, progress.history
    low, high = jnp.min(history), jnp.max(history)
    low_now, high_now = jnp.minimum(low, jnp.min(judged)), jnp.maximum(high, jnp.max(judged))
    full = search.generation >= history.size
    # Infinities have no range; where there is nothing else, it is zero.
    range_before = jnp.where(high > low, high - low, 0)
    range_now = jnp.where(high_now > low_now, high_now - low_now, 0)
    moving = progress.first_spread > 0
    growth = spread / jnp.where(moving, progress.first_spread, 1)
    met = [
        jnp.zeros((), bool),
        jnp.zeros((), bool) if target is None else search.best_fitness >= target,
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


def compiled_start(setting: Setting, key: Array, u: Array, max_generations: int) -> StartState:
    """A start as one program; it comes back every 1,000 generations, so that Ctrl-C is heard."""
    search = setting.search()
    _check_traceable(search, u)

    @partial(jax.jit, donate_argnums=0)
    def generations(progress: StartState, limit: Array) -> StartState:
        def generation(progress: StartState) -> StartState:
            this_key = jax.random.fold_in(key, progress.search.generation)
            state, fitness = advance(search, this_key, progress.search)
            return _follow(setting, this_key, progress, state, fitness)

        def keep_going(progress: StartState) -> Array:
            return (progress.reason == 0) & (progress.search.generation < limit)

        return jax.lax.while_loop(keep_going, generation, progress)

    progress = _begin(setting, u)
    while _unfinished(progress, max_generations):
        limit = min(int(progress.search.generation) + 1000, max_generations)
        progress = generations(progress, np.int32(limit))
    return progress


def _unfinished(progress: StartState, max_generations: int) -> bool:
    return int(progress.reason) == 0 and int(progress.search.generation) < max_generations


def _check_traceable(search: Search, x: Array) -> None:
    """Raises an error that says what to do unless `fitness_fn` is a jittable scalar function."""
    try:
        check_scalar("fitness_fn", search.fitness_fn, x)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise TypeError(
            "fitness_fn cannot be traced by JAX; with host=True it is called with NumPy arrays "
            f"[N, ...] instead, and returns [N] ({str(error).splitlines()[0]})"
        ) from error


def host_start(setting: Setting, key: Array, u: Array, max_generations: int) -> StartState:
    """A start whose fitness is computed by NumPy: one dispatch a generation."""
    strategy = setting.search().strategy

    @jax.jit
    def ask(key: Array, state: SearchState) -> Array:
        return strategy.ask(jax.random.fold_in(key, state.generation), state.strategy)

    @partial(jax.jit, donate_argnums=(0,))
    def tell(progress: StartState, x: Array, fitness: Array) -> tuple[StartState, Array]:
        # The rows that were evaluated: one asked for alone can differ in its last bits.
        this_key = jax.random.fold_in(key, progress.search.generation)
        state = told(strategy, this_key, progress.search, fitness, lambda member: x[member])
        return _follow(setting, this_key, progress, state, fitness), ask(key, state)

    unravel = jax.jit(jax.vmap(setting.space.unravel))
    progress = _begin(setting, u)
    x = ask(key, progress.search)
    _check_by_rows(setting.fitness_fn, jax.device_get(unravel(x)))
    while _unfinished(progress, max_generations):
        # Copies: a host function may write into its argument.
        fitness = np.asarray(setting.fitness_fn(jax.tree.map(np.array, unravel(x))))
        _check_host_fitness(fitness, strategy.population_size, u.dtype)
        progress, x = tell(progress, x, fitness.astype(u.dtype))
    return progress


def _check_by_rows(fitness_fn: Callable[[Any], Any], solutions: Any) -> None:
    """Raises a ValueError for a function that judges columns, where the shape of what it returns
    would not tell: as many members as a solution has numbers. It is called with a few of them."""
    leaves = jax.tree.leaves(solutions)
    lengths = {length for leaf in leaves for length in leaf.shape[1:]}
    population_size = leaves[0].shape[0]
    if population_size in lengths:
        count = next(count for count in range(2, 99) if count not in lengths)
        few = jax.tree.map(lambda leaf: leaf[np.arange(count) % population_size], solutions)
        got = np.shape(fitness_fn(few))
        allowed = f"a function to fitness of shape [{count}] for {count} solutions, one a row"
        check("fitness_fn", list(got), got == (count,), allowed)


def _check_host_fitness(fitness: np.ndarray, population_size: int, dtype: np.dtype) -> None:
    """Raises a ValueError unless these are real numbers, one a member, that `dtype` can hold."""
    real = fitness.shape == (population_size,) and fitness.dtype.kind in "fiub"
    got = f"{fitness.dtype}{list(fitness.shape)}"
    check("fitness_fn", got, real, f"a function to real fitness of shape [{population_size}]")
    largest = float(jnp.finfo(dtype).max)
    huge = np.isfinite(fitness) & (np.abs(fitness.astype(float)) > largest)
    allowed = f"within ±{largest:.3g}, or the mean an array of float64"
    check("fitness_fn", fitness[huge][:1], not huge.any(), allowed)
