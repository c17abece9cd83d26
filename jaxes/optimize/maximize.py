"""`maximize` and `minimize`: one call for a plain function, with bounds, restarts and an end."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxes.checks import MAX_COUNT, check, check_count, check_name, check_number, check_seed
from jaxes.core import Strategy
from jaxes.optimize.restarts import Restarts, Start, next_start, patience, starts
from jaxes.optimize.space import as_array, flatten, precision_of
from jaxes.optimize.start import (
    REASONS,
    TERMINATION,
    Setting,
    StartState,
    Termination,
    check_termination,
    compiled_start,
    host_start,
)
from jaxes.strategies.cma_es import cma_es


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
      solution: the best that was evaluated, a pytree of NumPy arrays like the mean given. In one
        compiled program it is rebuilt from its number: equal to what was evaluated up to rounding.
      value: its value, in the dtype of the mean; -inf (of `minimize` inf) where nothing that was
        evaluated had one, and the solution is then the start.
      evaluations: how many solutions were evaluated, in all starts.
      reason: why it stopped: `target`, `budget`, `max_generations` (of the last restart), or a
        criterion of `Termination`.
      starts: how many times the search was started.
      mean: the mean at the end of the last start, a pytree: the better answer if the function is
        noisy.
    """

    solution: Any
    value: float
    evaluations: int
    reason: str
    starts: int
    mean: Any


def maximize(
    fitness_fn: Callable[[Any], Any],
    mean: Any,
    strategy: Strategy | Callable[[int], Strategy] | None = None,
    *,
    std: Any = 1.0,
    bounds: tuple[Any, Any] | None = None,
    host: bool = False,
    target: float | None = None,
    budget: int | None = None,
    population_size: int | None = None,
    restarts: Restarts = "none",
    max_restarts: int = 9,
    termination: Termination = TERMINATION,
    seed: int = 0,
) -> SearchResult:
    """Finds a great value of a plain function.

    Args:
      fitness_fn: `(solution) -> fitness []`, jittable, where a solution is a pytree like the mean;
        the whole search is then one compiled program, and no part of another. With `host`,
        `(solutions) -> fitness [N]`, a function of NumPy arrays with a leading axis N, called once
        a generation; where N is D, once more for a few members, to see that it judges rows.
      mean: where to start: a pytree of floats, of D numbers in all; or a function `(key) -> pytree`
        that each restart calls anew. A list or tuple of numbers is an array. Arrays of float64 are
        searched in float64, even where JAX's default is float32.
      strategy: a strategy, or a function from the population size to one, such as `jaxes.snes`;
        `cma_es` with sigma=1 by default.
      std: the initial standard deviation of each coordinate is this times the strategy's `sigma`:
        a number, or a pytree like the mean. Its ratios are the scales of the coordinates.
      bounds: `(low, high)`, each a number or a pytree like the mean, ±inf where there is none; or a
        list of `(low, high)` by coordinate, as SciPy has them, None where there is none.
        Members never leave them, as rounded to the mean's dtype (see `jaxes.optimize.bounds`).
      host: says that `fitness_fn` is a host function. It is never guessed.
      target: stop when a fitness is at least this.
      budget: the greatest number of evaluations, in all starts; by default 10,000 D, or
        100 generations if that is more.
      population_size: N, where `strategy` is a function; 4 + ⌊3 ln D⌋ by default, made even.
      restarts: `ipop` starts again with twice the population when a start has ended, `bipop`
        alternates this with small populations and steps. Needs a `strategy` that is a function.
      max_restarts: how many times the population may double.
      termination: when a start has ended.
      seed: of all randomness, in [0, 2³²).

    Raises:
      ValueError: an argument outside its range or of the wrong shape; the message names it.
      TypeError: `fitness_fn` cannot be traced: it is a host function.

    Example:
      >>> result = jaxes.maximize(lambda x: -jnp.sum((x - 3) ** 2), jnp.zeros(10))
      >>> result.value, result.evaluations, result.reason

    References: Hansen, arXiv:1604.00772, appendix B.3 (termination); Auger & Hansen, A restart CMA
    evolution strategy with increasing population size (CEC 2005); Hansen, Benchmarking a
    bi-population CMA-ES on the BBOB-2009 function testbed (GECCO 2009).
    """
    check("fitness_fn", fitness_fn, callable(fitness_fn), "a function")
    _check_options(host, target, restarts, max_restarts, termination, seed)
    make = _maker(strategy, population_size, restarts)
    mean_key, search_key = jax.random.split(jax.random.key(seed))
    start_at = mean if callable(mean) else lambda key: mean
    first_mean = as_array(start_at(mean_key))
    with precision_of(first_mean):
        space = flatten(first_mean, std, bounds)
        dim = space.scale.size
        size = _first_size(make, dim, population_size)
        budget = max(10_000 * dim, 100 * size) if budget is None else budget
        check_count("budget", budget, minimum=size, maximum=2**62, why=", one generation")
        _check_doublings(make, size, max_restarts if restarts != "none" else 0, budget)

        def run(start: Start, index: int, max_generations: int) -> tuple[Setting, StartState]:
            scaled = space._replace(scale=space.scale * start.std_factor)
            setting = Setting(make(start.population_size), scaled, fitness_fn, target, termination)
            u = scaled.coordinates(as_array(start_at(jax.random.fold_in(mean_key, index))))
            key = jax.random.fold_in(search_key, index)
            search = host_start if host else compiled_start
            return setting, search(setting, key, u, max_generations)

        runs: list[tuple[Setting, StartState]] = []
        evaluations, all_starts = 0, starts(restarts, size, max_restarts, seed)
        start: Start | None = next(all_starts)
        while start is not None and evaluations + start.population_size <= budget:
            size = start.population_size
            generations = int(min(budget - evaluations, start.budget)) // size
            if restarts != "none":
                generations = min(generations, patience(dim, size))
            runs.append(run(start, len(runs), min(max(generations, 1), MAX_COUNT)))
            last = runs[-1][1]
            used = int(last.search.generation) * size
            evaluations += used
            if REASONS[int(last.reason)] == "target":
                break
            start = next_start(all_starts, used)

        reason = REASONS[int(last.reason)]
        if reason != "target" and start is not None:
            reason = "budget"  # there would have been another start
        elif reason == "none":
            reason = "budget" if evaluations + size > budget else "max_generations"
        return _result(runs, evaluations, reason)


def _result(runs: list[tuple[Setting, StartState]], evaluations: int, reason: str) -> SearchResult:
    best = max((progress.search for _, progress in runs), key=lambda run: float(run.best_fitness))
    setting, last = runs[-1]
    return SearchResult(
        solution=jax.device_get(setting.space.unravel(best.best)),
        value=float(best.best_fitness),
        evaluations=evaluations,
        reason=reason,
        starts=len(runs),
        mean=jax.device_get(setting.space.solution(last.search.strategy.mean)),
    )


def minimize(
    fitness_fn: Callable[[Any], Any],
    mean: Any,
    strategy: Strategy | Callable[[int], Strategy] | None = None,
    *,
    target: float | None = None,
    **options: Any,
) -> SearchResult:
    """Finds a small value of a plain function: `maximize` of `-fitness_fn`, with its arguments.

    `target` is then what the value has to be at most; `SearchResult.value` is one of `fitness_fn`.

    Example:
      >>> result = jaxes.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(10), target=1e-8)
    """

    def negative(solution: Any) -> Any:
        lib: Any = np if options.get("host") is True else jnp
        value = fitness_fn(solution)
        if lib is np or isinstance(value, bool | int | float):
            value = lib.asarray(value)
        dtype = getattr(value, "dtype", np.dtype(object))
        numbers = jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)
        # What is no number is for maximize to refuse.
        return -value.astype(lib.result_type(value, lib.float32)) if numbers else value

    check("fitness_fn", fitness_fn, callable(fitness_fn), "a function")
    if target is not None:
        check_number("target", target)
    result = maximize(
        negative,
        mean,
        strategy,
        target=None if target is None else -target,
        **options,
    )
    return result._replace(value=-result.value)


def _check_options(
    host: Any, target: Any, restarts: Any, max_restarts: Any, termination: Any, seed: Any
) -> None:
    check("host", host, isinstance(host, bool), "True or False")
    check_name("restarts", restarts, get_args(Restarts))
    check_count("max_restarts", max_restarts, minimum=0)
    check_seed("seed", seed)
    if target is not None:
        check_number("target", target)
    check_termination(termination)


def _check_doublings(
    make: Callable[[int], Strategy], size: int, max_restarts: int, budget: int
) -> None:
    """Raises a ValueError if a restart that the budget allows has too large a population."""
    for doublings in range(1, max_restarts + 1):
        if size * 2**doublings <= budget:
            try:
                make(size * 2**doublings)
            except ValueError as error:
                raise ValueError(
                    f"max_restarts must be less than {doublings} with {size} members at first, "
                    f"got {max_restarts}: {error}"
                ) from error


def _first_size(make: Callable[[int], Strategy], dim: int, population_size: int | None) -> int:
    """The population size of the first start: the one asked for, or 4 + ⌊3 ln D⌋, as in the
    tutorial, made even for strategies that sample in pairs; that of a strategy of a fixed size."""
    default = 4 + int(3 * math.log(dim))
    try:
        size = default + default % 2 if population_size is None else population_size
        return make(size).population_size
    except ValueError as error:
        if population_size is not None or not str(error).startswith("population_size"):
            raise
        raise ValueError(f"{error}, the default; give a population_size") from error


def _maker(
    strategy: Any, population_size: int | None, restarts: Restarts
) -> Callable[[int], Strategy]:
    """The function from a population size to a strategy of that size.

    Raises:
      ValueError: a strategy of a fixed size where its size is to be chosen.
    """
    if isinstance(strategy, Strategy):
        if population_size is not None or restarts != "none":
            needs = "population_size" if population_size is not None else "restarts"
            raise ValueError(
                f"strategy must be a function of the population size, such as jaxes.cma_es, where "
                f"{needs} is given; got a Strategy of {strategy.population_size} members"
            )
        return lambda size: strategy
    allowed = "a Strategy, or a function from a population size to one, such as jaxes.cma_es"
    check("strategy", strategy, strategy is None or callable(strategy), allowed)
    factory = partial(cma_es, sigma=1.0) if strategy is None else strategy

    def make(size: int) -> Strategy:
        made = factory(size)
        check("strategy", made, isinstance(made, Strategy), allowed)
        fits = made.population_size == size
        check("strategy", made.population_size, fits, f"of the {size} members it was asked for")
        return made

    return make
