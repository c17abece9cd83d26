"""One start of a search: generations until the fitness is reached, or a criterion is met."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check
from jaxes.core import Population, State, Strategy
from jaxes.optimize.space import Space
from jaxes.problems.functions import check_scalar, evaluate_in_chunks

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


class Search(NamedTuple):
    """What stays the same during one start."""

    strategy: Strategy
    space: Space
    fitness_fn: Callable[[Any], Any]
    target: float | None
    termination: Termination


class Run(NamedTuple):
    """One start, as far as it has come."""

    state: State
    generation: Array  # int32 []
    best: Array  # [D], the best solution so far
    best_value: Array  # []
    history: Array  # [10 + 30 D/N], best values of the last generations, once there were as many
    first_spread: Array  # [], root mean square of the first generation's steps
    reason: Array  # int32 [], an index of REASONS


def _begin(search: Search, u: Array) -> Run:
    length = 10 + math.ceil(30 * u.size / search.strategy.population_size)
    return Run(
        state=search.strategy.init(u),
        generation=jnp.zeros((), jnp.int32),
        best=search.space.flat(u),
        best_value=jnp.asarray(-jnp.inf, u.dtype),
        history=jnp.zeros((length,), u.dtype),
        first_spread=jnp.zeros((), u.dtype),
        reason=jnp.zeros((), jnp.int32),
    )


def _tell(
    search: Search, key: Array, run: Run, fitness: Array, x_of: Callable[[Array], Array]
) -> Run:
    """The generation after its fitness is known: the best so far, the update, reasons to stop.

    `x_of` says where a member `[]` was evaluated, `[D]`.
    """
    ask = search.strategy.ask
    judged = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    fittest = jnp.argmax(judged)
    better = judged[fittest] > run.best_value

    few = jnp.arange(min(search.strategy.population_size, 8), dtype=jnp.int32)
    spread = jnp.sqrt(jnp.mean((ask(key, run.state, few) - run.state.mean[None]) ** 2))
    run = run._replace(
        best=jnp.where(better, x_of(fittest), run.best),
        best_value=jnp.maximum(judged[fittest], run.best_value),
        history=jnp.roll(run.history, 1).at[0].set(judged[fittest]),
        first_spread=jnp.where(run.first_spread > 0, run.first_spread, spread),
        state=search.strategy.tell(key, run.state, fitness),
        generation=run.generation + 1,
    )
    return run._replace(reason=_reason(search, run, judged, spread))


def _reason(search: Search, run: Run, judged: Array, spread: Array) -> Array:
    """The index in REASONS of the first criterion that is met; 0 if none is."""
    limits, target = search.termination, search.target
    low, high = jnp.min(run.history), jnp.max(run.history)
    low_now, high_now = jnp.minimum(low, jnp.min(judged)), jnp.maximum(high, jnp.max(judged))
    full = run.generation >= run.history.size
    # Infinities have no range; where there is nothing else, it is zero.
    range_before = jnp.where(high > low, high - low, 0)
    range_now = jnp.where(high_now > low_now, high_now - low_now, 0)
    moving = run.first_spread > 0
    growth = spread / jnp.where(moving, run.first_spread, 1)
    met = [
        jnp.zeros((), bool),
        jnp.zeros((), bool) if target is None else run.best_value >= target,
        full & (range_before < limits.tolfunhist),
        full & (range_now < limits.tolfun),
        moving & (growth < limits.tolx),
        moving & (growth > limits.tolfacupx),
        _condition(run.state) > limits.condition,
    ]
    return jnp.argmax(jnp.stack(met)).astype(jnp.int32)


def _condition(state: State) -> Array:
    """The condition number of the covariance, if the state has its axes `D` or `std`; or 1."""
    axes = getattr(state, "D", getattr(state, "std", jnp.ones(1)))
    return (jnp.max(axes) / jnp.min(axes)) ** 2


def compiled_search(search: Search, key: Array, u: Array, max_generations: int) -> Run:
    """A start as one program; it comes back every 1,000 generations, so that Ctrl-C is heard."""

    def fn(u: Array) -> Array:
        return jnp.asarray(search.fitness_fn(search.space.solution(u)), u.dtype)

    _check_traceable(search, u)

    @partial(jax.jit, donate_argnums=0)
    def advance(run: Run, limit: Array) -> Run:
        def generation(run: Run) -> Run:
            ask_key = jax.random.fold_in(key, run.generation)
            size = search.strategy.population_size
            population = Population(search.strategy.ask, ask_key, run.state, size)

            def x_of(member: Array) -> Array:
                return search.space.flat(population(member[None].astype(jnp.int32))[0])

            return _tell(search, ask_key, run, evaluate_in_chunks(fn, population), x_of)

        def goes_on(run: Run) -> Array:
            return (run.reason == 0) & (run.generation < limit)

        return jax.lax.while_loop(goes_on, generation, run)

    run = _begin(search, u)
    while int(run.reason) == 0 and int(run.generation) < max_generations:
        limit = min(int(run.generation) + 1000, max_generations)
        run = advance(run, np.int32(limit))
    return run


def _check_traceable(search: Search, u: Array) -> None:
    """Raises an error that says what to do unless `fitness_fn` is a jittable scalar function."""
    try:
        check_scalar("fitness_fn", lambda u: search.fitness_fn(search.space.solution(u)), u)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise TypeError(
            "fitness_fn cannot be traced by JAX; with host=True it is called with NumPy arrays "
            f"[N, ...] instead, and returns [N] ({str(error).splitlines()[0]})"
        ) from error


def host_search(search: Search, key: Array, u: Array, max_generations: int) -> Run:
    """A start whose fitness is computed by NumPy: one dispatch a generation."""

    @jax.jit
    def ask(key: Array, state: State) -> Array:
        return search.space.flat(search.strategy.ask(key, state))

    @partial(jax.jit, donate_argnums=(0,))
    def tell(run: Run, x: Array, fitness: Array) -> tuple[Run, Array]:
        # The rows that were evaluated: one asked for alone can differ in its last bits.
        this_key = jax.random.fold_in(key, run.generation)
        run = _tell(search, this_key, run, fitness, lambda member: x[member])
        return run, ask(jax.random.fold_in(key, run.generation), run.state)

    unravel = jax.jit(jax.vmap(search.space.unravel))

    run, size = _begin(search, u), search.strategy.population_size
    x = ask(jax.random.fold_in(key, 0), run.state)
    while int(run.reason) == 0 and int(run.generation) < max_generations:
        # Copies: a host function may write into its argument.
        fitness = np.asarray(search.fitness_fn(jax.tree.map(np.array, unravel(x))))
        real = fitness.shape == (size,) and fitness.dtype.kind in "fiub"
        got = f"{fitness.dtype}{list(fitness.shape)}"
        check("fitness_fn", got, real, f"a function to real fitness of shape [{size}]")
        largest = float(jnp.finfo(u.dtype).max)
        huge = np.isfinite(fitness) & (np.abs(fitness.astype(float)) > largest)
        allowed = f"within ±{largest:.3g}, or the mean an array of float64"
        check("fitness_fn", fitness[huge][:1], not huge.any(), allowed)
        run, x = tell(run, x, fitness.astype(u.dtype))
    return run
