"""One generation of a search as a pure function: ask, evaluate, tell, once.

`advance` can be jitted, scanned, vmapped, and stand within an episode (a planner searches in every
step of one). `jaxes.maximize` loops over it, with bounds, restarts and an end.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import parallel
from jaxes.checks import check, failing, is_real
from jaxes.core import HParams, Population, State, Strategy
from jaxes.gaussian import CHUNK_SIZE

# What JAX raises where a function is none that it can trace.
CANNOT_BE_TRACED = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)


class Search(NamedTuple):
    """What stays the same during a search.

    Attributes:
      strategy: what searches.
      fitness_fn: `(solution [D]) -> fitness []`, jittable; maximized, NaN ranks worst.
      size: int32 `[]`, traced: only so many first members are evaluated, where `strategy` makes
        nothing of the others (see `jaxes.optimize.programs`); None where all are.
      hold: whether the noise of a generation is held in memory, `[N, D]`, rather than drawn twice;
        it is the same noise.
    """

    strategy: Strategy
    fitness_fn: Callable[[Array], Any]
    size: Array | None = None
    hold: bool = False


class SearchState(NamedTuple):
    """A search, as far as it has come."""

    generation: Array  # int32 []
    strategy: State
    best: Array  # [D], the best solution that was evaluated; the mean at the start until then
    best_fitness: Array  # [], in the dtype of the mean; -inf until there is one


def begin(search: Search, mean: Array, hparams: HParams | None = None) -> SearchState:
    """The state before the first generation.

    Args:
      search: what is searched, and by what.
      mean: `[D]`, where the search starts; fixes the dtype of the whole state.
      hparams: replaces the strategy's defaults; leaves may be traced.

    Raises:
      ValueError: what the strategy's `init` refuses.
    """
    mean = jnp.asarray(mean)
    hparams = search.strategy.hparams if hparams is None else hparams
    return SearchState(
        generation=jnp.zeros((), jnp.int32),
        strategy=search.strategy.init(mean, hparams),
        best=jnp.copy(mean),  # no two leaves share a buffer
        best_fitness=jnp.asarray(-jnp.inf, mean.dtype),
    )


def advance(
    search: Search, key: Array, state: SearchState, beside: Array | None = None
) -> tuple[SearchState, Array]:
    """The state after one more generation, and the fitness `[N]` of its members.

    Args:
      search: what is searched, and by what.
      key: this generation's, consumed.
      state: of `begin`, or of the last generation.
      beside: `[K, D]`, solutions that are evaluated at once with all members, and of which the
        strategy is not told; they may become the best, also where they only tie with it.

    Raises:
      ValueError: at trace time, where `fitness_fn` returns anything else than one real number.

    Example:
      >>> search = Search(jaxes.cem(64), lambda x: -jnp.sum((x - 3) ** 2))
      >>> keys = jax.random.split(jax.random.key(0), 100)
      >>> state, fitness = jax.lax.scan(
      ...     lambda state, key: advance(search, key, state), begin(search, jnp.zeros(10)), keys
      ... )
    """
    strategy, fitness_fn, size, hold = search
    check_scalar("fitness_fn", fitness_fn, state.best)
    if hold and strategy.hold is not None:
        key = strategy.hold(key, state.strategy)
    population = Population(strategy.ask, key, state.strategy, strategy.population_size)

    def fn(solution: Array) -> Array:
        return jnp.asarray(fitness_fn(solution), solution.dtype)

    # Not divided among devices: each may be at another step of another episode.
    if beside is not None:
        values = jax.vmap(fn)(jnp.concatenate([population(), beside]))
        fitness, others = values[: population.size], values[population.size :]
    elif size is None:
        fitness = evaluate_in_chunks(fn, population, divide=False)
    else:
        fitness = evaluate_first(fn, population, size)
    state = told(strategy, key, state, fitness, lambda member: population(member[None])[0])
    if beside is not None:
        judged = without_nan(others)
        most = jnp.argmax(judged)
        better = (judged[most] >= state.best_fitness) & (judged[most] > -jnp.inf)
        state = state._replace(
            best=jnp.where(better, beside[most], state.best),
            best_fitness=jnp.where(better, judged[most], state.best_fitness),
        )
    return state, fitness


def told(
    strategy: Strategy,
    key: Array,
    state: SearchState,
    fitness: Array,
    solution_of: Callable[[Array], Array],
) -> SearchState:
    """The second half of `advance`, for fitness `[N]` that was computed elsewhere.

    `solution_of` gives the solution `[D]` of a member, int32 `[]`, as it was evaluated.
    """
    judged = without_nan(fitness)
    fittest = jnp.argmax(judged).astype(jnp.int32)
    better = judged[fittest] > state.best_fitness
    return SearchState(
        generation=state.generation + 1,
        strategy=strategy.tell(key, state.strategy, fitness),
        best=jnp.where(better, solution_of(fittest), state.best),
        best_fitness=jnp.maximum(judged[fittest], state.best_fitness),
    )


def without_nan(fitness: Array) -> Array:
    """-inf in place of NaN, which is never the best."""
    return jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)


def check_scalar(field: str, fn: Callable[[Array], Any], x: Any) -> None:
    """Raises a ValueError if `fn(x)` is not one real number. Nothing is computed."""
    with failing(f"{field} fails", unless=lambda error: isinstance(error, CANNOT_BE_TRACED)):
        value = jax.eval_shape(fn, x)
    shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", np.dtype(type(value)))
    real = shape == () and is_real(dtype)
    got = f"{dtype}{list(shape)}" if isinstance(value, jax.ShapeDtypeStruct) else value
    check(field, got, real, "a function to one real number, of shape ()")


def evaluate_in_chunks(
    fn: Callable[[Array], Array], population: Population, divide: bool = True
) -> Array:
    """`fn` of each member: `[N]`, never holding more than a chunk of the population.

    The devices divide the chunks, unless told otherwise.
    """

    def chunk(members: Array) -> Array:
        return jax.vmap(fn)(population(members))

    size = min(population.size, CHUNK_SIZE)
    members = jnp.arange(population.size, dtype=jnp.int32)
    whole = population.size - population.size % size
    chunks = members[:whole].reshape(-1, size)
    fitness = (
        parallel.map_divided(chunk, chunks, hosts=True) if divide else jax.lax.map(chunk, chunks)
    )
    fitness = fitness.reshape(-1)
    if whole < population.size:
        fitness = jnp.concatenate([fitness, chunk(members[whole:])])
    return fitness


def evaluate_first(fn: Callable[[Array], Array], population: Population, count: Array) -> Array:
    """`fn` of the first `count []` members, a traced number, and -inf for the others: `[N]`.

    A loop over chunks of an eighth of the population ends with the last that has such a member.
    """
    size = max(1, min(population.size // 8, CHUNK_SIZE))
    chunks = -(-population.size // size)

    def fill(i: Array, fitness: Array) -> Array:
        members = i * size + jnp.arange(size, dtype=jnp.int32)
        return jax.lax.dynamic_update_slice(fitness, jax.vmap(fn)(population(members)), (i * size,))

    nothing = jnp.full(chunks * size, -jnp.inf, population.mean.dtype)
    fitness = jax.lax.fori_loop(0, (count + size - 1) // size, fill, nothing)[: population.size]
    return jnp.where(jnp.arange(population.size, dtype=jnp.int32) < count, fitness, -jnp.inf)
