"""`maximize` and `minimize`: one call for a plain function, with bounds, restarts and an end."""

import contextlib
import math
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes.bounds import Box
from jaxes.checks import MAX_COUNT, check, check_count, check_name, check_number, check_seed
from jaxes.core import Population, State, Strategy
from jaxes.problems.functions import evaluate_in_chunks
from jaxes.strategies.cma_es import cma_es

Restarts = Literal["none", "ipop", "bipop"]
REASONS = ("none", "target", "tolfunhist", "tolfun", "tolx", "tolfacupx", "condition")


class Result(NamedTuple):
    """What a search found.

    Attributes:
      solution: the best that was evaluated, a pytree of NumPy arrays like the mean given.
      value: its value, in the dtype of the mean.
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
) -> Result:
    """Finds a great value of a plain function.

    Args:
      fitness_fn: `(solution) -> fitness []`, jittable, where a solution is a pytree like the mean;
        the whole search is then one compiled program. With `host`, `(solutions) -> fitness [N]`, a
        function of NumPy arrays with a leading axis N, called once a generation.
      mean: where to start: a pytree of floats, of D numbers in all; or a function `(key) -> pytree`
        that each restart calls anew. A list of numbers is an array. Arrays of float64 are searched
        in float64, even where JAX's default is float32.
      strategy: a strategy, or a function from the population size to one, such as `jaxes.snes`;
        `cma_es` with sigma=1 by default.
      std: the initial standard deviation of each coordinate is this times the strategy's `sigma`:
        a number, or a pytree like the mean. Its ratios are the scales of the coordinates.
      bounds: `(low, high)`, each a number or a pytree like the mean; ±inf where there is none.
        Members never leave them (see `jaxes.bounds`).
      host: says that `fitness_fn` is a host function. It is never guessed.
      target: stop when a fitness is at least this.
      budget: the greatest number of evaluations, in all starts; 10,000 D by default.
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
    check_name("restarts", restarts, get_args(Restarts))
    check_count("max_restarts", max_restarts, least=0)
    check_seed("seed", seed)
    if target is not None:
        check_number("target", target)
    check("fitness_fn", fitness_fn, callable(fitness_fn), "a function")
    _check_termination(termination)
    make = _maker(strategy, population_size, restarts)
    mean_key, search_key = jax.random.split(jax.random.key(seed))
    start_at = mean if callable(mean) else lambda key: _as_array(mean)
    first_mean = start_at(mean_key)
    with _precision_of(first_mean):
        space = _space(first_mean, std, bounds)
        dim = space.scale.size
        wanted = _default_size(dim) if population_size is None else population_size
        size = make(wanted).population_size
        budget = 10_000 * dim if budget is None else budget
        check_count("budget", budget, least=size, most=2**62, why=", one generation")

        runs: list[_Run] = []
        evaluations, schedule = 0, _schedule(restarts, size, max_restarts, seed)
        plan: _Plan | None = next(schedule)
        while plan is not None and evaluations + plan.population_size <= budget:
            evaluations_left = int(min(budget - evaluations, plan.budget))
            generations = min(evaluations_left // plan.population_size, MAX_COUNT)
            if restarts != "none":
                generations = min(generations, _patience(dim, plan.population_size))
            scaled = space._replace(scale=space.scale * plan.std_factor)
            searcher = make(plan.population_size)
            search = _Search(searcher, scaled, fitness_fn, target, termination)
            run = (_host_search if host else _compiled_search)(
                search,
                jax.random.fold_in(search_key, len(runs)),
                scaled.coordinates(start_at(jax.random.fold_in(mean_key, len(runs)))),
                max(generations, 1),
            )
            runs.append(run)
            used = int(run.generation) * plan.population_size
            evaluations += used
            if REASONS[int(run.reason)] == "target":
                break
            plan = _next(schedule, used)

        reason = REASONS[int(runs[-1].reason)]
        if reason != "target" and plan is not None:
            reason = "budget"  # there would have been another start
        elif reason == "none":
            size = search.strategy.population_size
            reason = "budget" if evaluations + size > budget else "max_generations"
        best = max(runs, key=lambda run: float(run.best_value))
        return Result(
            solution=jax.device_get(space.unravel(best.best)),
            value=float(best.best_value),
            evaluations=evaluations,
            reason=reason,
            starts=len(runs),
            mean=jax.device_get(space.solution(runs[-1].state.mean)),
        )


def minimize(
    fn: Callable[[Any], Any],
    mean: Any,
    strategy: Strategy | Callable[[int], Strategy] | None = None,
    *,
    target: float | None = None,
    **options: Any,
) -> Result:
    """Finds a small value of a plain function: `maximize` of `-fn`, with its arguments.

    `target` is then what the value has to be at most, and `Result.value` is a value of `fn`.

    Example:
      >>> result = jaxes.minimize(lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(10), target=1e-8)
    """

    def negative(solution: Any) -> Any:
        value = fn(solution)
        if options.get("host"):
            return -np.asarray(value).astype(np.result_type(value, np.float32))
        return -jnp.asarray(value, jnp.result_type(value, jnp.float32))

    check("fn", fn, callable(fn), "a function")
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


# What is searched: flat vectors u [D], in which every coordinate has the same scale.


class _Space(NamedTuple):
    """The map from a strategy's vector u to a solution: x = box(scale · u), then the pytree.

    Attributes:
      scale: [D], the given standard deviations.
      box: the bounds.
      unravel: `[D] -> pytree`.
    """

    scale: Array
    box: Box
    unravel: Callable[[Array], Any]

    def flat(self, u: Array) -> Array:
        """x `[..., D]`."""
        return self.box.inside(self.scale * u)

    def solution(self, u: Array) -> Any:
        return self.unravel(self.flat(u))

    def coordinates(self, mean: Any) -> Array:
        """u `[D]` of a starting point.

        Raises:
          ValueError: it is outside of the bounds, or has another shape than the first one.
        """
        x = ravel_pytree(mean)[0]
        check("mean", x.size, x.size == self.scale.size, f"of {self.scale.size} numbers")
        within = bool(jnp.all((self.box.low <= x) & (x <= self.box.high)))
        check("mean", mean, within, "within the bounds")
        return self.box.outside(x) / self.scale


def _space(mean: Any, std: Any, bounds: tuple[Any, Any] | None) -> _Space:
    """Checks the arguments that describe the space, and flattens them."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(mean)]
    for leaf in leaves:
        check("mean", leaf.dtype, bool(jnp.issubdtype(leaf.dtype, jnp.floating)), "of floats")
    check("mean", mean, sum(leaf.size for leaf in leaves) > 0, "of at least one number")
    x, unravel = ravel_pytree(mean)
    check("mean", mean, bool(jnp.all(jnp.isfinite(x))), "finite")
    scale = _like("std", std, mean)
    check("std", std, bool(jnp.all((scale > 0) & jnp.isfinite(scale))), "positive")
    pair = (-math.inf, math.inf) if bounds is None else bounds
    check("bounds", pair, isinstance(pair, tuple | list) and len(pair) == 2, "a pair (low, high)")
    low, high = (_like("bounds", bound, mean) for bound in pair)
    check("bounds", bounds, bool(jnp.all(low < high)), "low < high in every coordinate")
    return _Space(scale, Box(low, high), unravel)


def _like(field: str, value: Any, mean: Any) -> Array:
    """A number, or a pytree like `mean`, as a vector `[D]` in the dtype of the mean."""
    x = ravel_pytree(mean)[0]
    shape = jax.tree.map(np.shape, mean)
    allowed = f"a number, or a pytree of numbers of the mean's shape, {shape}"
    if jax.tree_util.all_leaves([mean]) and not isinstance(value, dict):
        value = np.asarray(value)  # an array's std may be a list
    leaves = jax.tree.leaves(value)
    numbers = all(np.asarray(leaf).dtype.kind in "fiu" for leaf in leaves)
    check(field, value, bool(leaves) and numbers, allowed)
    if jax.tree_util.all_leaves([value]) and np.ndim(value) == 0:
        return jnp.full_like(x, value)
    check(field, value, jax.tree.map(np.shape, value) == shape, allowed)
    return ravel_pytree(value)[0].astype(x.dtype)


def _precision_of(mean: Any) -> contextlib.AbstractContextManager:
    """float64 where an array of the mean has it: a NumPy array says so, a Python float does not."""
    double = any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(mean))
    return jax.enable_x64(True) if double else contextlib.nullcontext()


def _as_array(mean: Any) -> Any:
    """A list of plain numbers as an array; any other pytree as it is."""
    numbers = isinstance(mean, list | tuple) and len(mean) > 0
    numbers = numbers and all(isinstance(number, float | int) for number in mean)
    return jnp.asarray(mean, jnp.float32) if numbers else mean


def _default_size(dim: int) -> int:
    """4 + ⌊3 ln D⌋, as in the tutorial, made even for strategies that sample in pairs."""
    size = 4 + int(3 * math.log(dim))
    return size + size % 2


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
        try:
            made = factory(size)
        except ValueError as error:
            if population_size is not None or not str(error).startswith("population_size"):
                raise
            raise ValueError(f"{error}, the default; give a population_size") from error
        check("strategy", made, isinstance(made, Strategy), allowed)
        fits = made.population_size == size
        check("strategy", made.population_size, fits, f"of the {size} members it was asked for")
        return made

    return make


def _check_termination(termination: Any) -> None:
    check("termination", termination, isinstance(termination, Termination), "a jaxes.Termination")
    for name, value in termination._asdict().items():
        valid = isinstance(value, float | int) and value >= 0
        check(f"termination.{name}", value, valid, "a number of at least 0, or infinity")


# One start.


class _Search(NamedTuple):
    """What stays the same during one start."""

    strategy: Strategy
    space: _Space
    fitness_fn: Callable[[Any], Any]
    target: float | None
    termination: Termination


class _Run(NamedTuple):
    """One start, as far as it has come."""

    state: State
    generation: Array  # int32 []
    best: Array  # [D], the best solution so far
    best_value: Array  # []
    history: Array  # [10 + 30 D/N], best values of the last generations, once there were as many
    first_spread: Array  # [], root mean square of the first generation's steps
    reason: Array  # int32 [], an index of REASONS


def _begin(search: _Search, u: Array) -> _Run:
    length = 10 + math.ceil(30 * u.size / search.strategy.population_size)
    return _Run(
        state=search.strategy.init(u),
        generation=jnp.zeros((), jnp.int32),
        best=search.space.flat(u),
        best_value=jnp.asarray(-jnp.inf, u.dtype),
        history=jnp.zeros((length,), u.dtype),
        first_spread=jnp.zeros((), u.dtype),
        reason=jnp.zeros((), jnp.int32),
    )


def _tell(search: _Search, key: Array, run: _Run, fitness: Array) -> _Run:
    """The generation after its fitness is known: the best so far, the update, reasons to stop."""
    ask = search.strategy.ask
    judged = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    fittest = jnp.argmax(judged)
    better = judged[fittest] > run.best_value
    x = search.space.flat(ask(key, run.state, fittest[None].astype(jnp.int32))[0])

    few = jnp.arange(min(search.strategy.population_size, 8), dtype=jnp.int32)
    spread = jnp.sqrt(jnp.mean((ask(key, run.state, few) - run.state.mean[None]) ** 2))
    run = run._replace(
        best=jnp.where(better, x, run.best),
        best_value=jnp.maximum(judged[fittest], run.best_value),
        history=jnp.roll(run.history, 1).at[0].set(judged[fittest]),
        first_spread=jnp.where(run.first_spread > 0, run.first_spread, spread),
        state=search.strategy.tell(key, run.state, fitness),
        generation=run.generation + 1,
    )
    return run._replace(reason=_reason(search, run, judged, spread))


def _reason(search: _Search, run: _Run, judged: Array, spread: Array) -> Array:
    """The index in REASONS of the first criterion that is met; 0 if none is."""
    limits, target = search.termination, search.target
    low, high = jnp.min(run.history), jnp.max(run.history)
    low_now, high_now = jnp.minimum(low, jnp.min(judged)), jnp.maximum(high, jnp.max(judged))
    full = run.generation >= run.history.size
    moving = run.first_spread > 0
    growth = spread / jnp.where(moving, run.first_spread, 1)
    met = [
        jnp.zeros((), bool),
        jnp.zeros((), bool) if target is None else run.best_value >= target,
        full & (high - low < limits.tolfunhist),
        full & (high_now - low_now < limits.tolfun),
        moving & (growth < limits.tolx),
        moving & (growth > limits.tolfacupx),
        _condition(run.state) > limits.condition,
    ]
    return jnp.argmax(jnp.stack(met)).astype(jnp.int32)


def _condition(state: State) -> Array:
    """The condition number of the covariance, if the state has its axes `D` or `std`; or 1."""
    axes = getattr(state, "D", getattr(state, "std", jnp.ones(1)))
    return (jnp.max(axes) / jnp.min(axes)) ** 2


def _compiled_search(search: _Search, key: Array, u: Array, max_generations: int) -> _Run:
    """A start as one program; it comes back every 1,000 generations, so that Ctrl-C is heard."""

    def fn(u: Array) -> Array:
        return jnp.asarray(search.fitness_fn(search.space.solution(u)), u.dtype)

    _check_traceable(search, u)

    @partial(jax.jit, donate_argnums=0)
    def advance(run: _Run, limit: Array) -> _Run:
        def generation(run: _Run) -> _Run:
            ask_key = jax.random.fold_in(key, run.generation)
            size = search.strategy.population_size
            population = Population(search.strategy.ask, ask_key, run.state, size)
            return _tell(search, ask_key, run, evaluate_in_chunks(fn, population))

        def goes_on(run: _Run) -> Array:
            return (run.reason == 0) & (run.generation < limit)

        return jax.lax.while_loop(goes_on, generation, run)

    run = _begin(search, u)
    while int(run.reason) == 0 and int(run.generation) < max_generations:
        limit = min(int(run.generation) + 1000, max_generations)
        run = advance(run, np.int32(limit))
    return run


def _check_traceable(search: _Search, u: Array) -> None:
    """Raises an error that says what to do unless `fitness_fn` is a jittable scalar function."""
    try:
        value = jax.eval_shape(lambda u: search.fitness_fn(search.space.solution(u)), u)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise TypeError(
            "fitness_fn cannot be traced by JAX; with host=True it is called with NumPy arrays "
            f"[N, ...] instead, and returns [N] ({str(error).splitlines()[0]})"
        ) from error
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", float)
    real = shape == () and not jnp.issubdtype(dtype, jnp.complexfloating)
    check("fitness_fn", (shape, dtype), real, "a function to one real number, of shape ()")


def _host_search(search: _Search, key: Array, u: Array, max_generations: int) -> _Run:
    """A start whose fitness is computed by NumPy: one dispatch a generation."""

    @jax.jit
    def ask(key: Array, state: State) -> Any:
        return jax.vmap(search.space.solution)(search.strategy.ask(key, state))

    @partial(jax.jit, donate_argnums=(0,))
    def tell(run: _Run, fitness: Array) -> tuple[_Run, Any]:
        run = _tell(search, jax.random.fold_in(key, run.generation), run, fitness)
        return run, ask(jax.random.fold_in(key, run.generation), run.state)

    run, size = _begin(search, u), search.strategy.population_size
    solutions = ask(jax.random.fold_in(key, 0), run.state)
    while int(run.reason) == 0 and int(run.generation) < max_generations:
        fitness = np.asarray(search.fitness_fn(jax.device_get(solutions)))
        got = (fitness.shape, fitness.dtype)
        real = got[0] == (size,) and fitness.dtype.kind in "fiub"
        check("fitness_fn", got, real, f"a function to real fitness of shape ({size},)")
        run, solutions = tell(run, fitness.astype(u.dtype))
    return run


# Restarts.


class _Plan(NamedTuple):
    """How to start: the population, a factor on the standard deviations, and a budget."""

    population_size: int
    std_factor: float = 1.0
    budget: float = math.inf


def _schedule(
    restarts: Restarts, size: int, max_restarts: int, seed: int
) -> Generator[_Plan, int, None]:
    """The plans of all starts; it is sent the evaluations that each has used."""
    yield _Plan(size)
    if restarts == "none":
        return
    rng = np.random.default_rng(seed)
    doublings, last_large, used_large, used_small = 0, 0, 0, 0
    while True:
        if restarts == "bipop" and used_small < used_large:
            u, v = rng.uniform(size=2)
            small = max(size, int(size * (2**doublings / 2) ** (u**2)))
            small += small % 2  # strategies that sample in pairs need an even number
            used_small += yield _Plan(small, 10 ** (-2 * v), last_large / 2)
        elif doublings < max_restarts:
            doublings += 1
            last_large = yield _Plan(size * 2**doublings)
            used_large += last_large
        else:
            return


def _next(schedule: Generator[_Plan, int, None], used: int) -> _Plan | None:
    try:
        return schedule.send(used)
    except StopIteration:
        return None


def _patience(dim: int, population_size: int) -> int:
    """The generations after which a start is given up for another (pycma's `maxiter`)."""
    return 100 + int(150 * (dim + 3) ** 2 / math.sqrt(population_size))
