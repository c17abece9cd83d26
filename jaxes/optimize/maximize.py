"""`maximize` and `minimize`: one call for a plain function, with bounds, restarts and an end."""

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxes.checks import check, check_count, check_name, check_number, check_seed
from jaxes.core import Strategy
from jaxes.hparams import paths
from jaxes.optimize.drive import Callback, Drive
from jaxes.optimize.programs import prng, search_keys, trace
from jaxes.optimize.progress import FILES, SearchResult, digest, load
from jaxes.optimize.restarts import Restarts
from jaxes.optimize.space import as_array, flatten, precision_of
from jaxes.optimize.start import TERMINATION, Termination, check_termination
from jaxes.optimize.task import Task
from jaxes.specs import spec_of
from jaxes.strategies.cma_es import cma_es
from jaxes.training.directory import open_run_dir
from jaxes.training.identity import check_same, noting_the_end
from jaxes.training.shell import check_shell


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
    run_dir: str | os.PathLike | None = None,
    resume: bool | SearchResult = False,
    callback: Callback | None = None,
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
      bounds: `(low, high)`, each a number or an array or a pytree like the mean, ±inf where there
        is none; or a list or tuple of D pairs of numbers, which are (low, high) by coordinate, as
        SciPy has them (also where D is 2), None where there is none.
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
      run_dir: keeps the search in `search.npz`, about every ten seconds and when it ends.
      resume: go on with what `run_dir` has, if it has something, or with this result of an earlier
        call; it is then the search that was never cut. Budget, target and `max_restarts` may be
        others; what else differs is refused, but for `fitness_fn`, which is not looked at.
      callback: `(result so far) -> bool | None`, called after each generation of a host function,
        about once a second otherwise; True ends the search.

    Raises:
      ValueError: an argument outside its range or of the wrong shape; the message names it.
      TypeError: `fitness_fn` cannot be traced: it is a host function.
      KeyboardInterrupt: after Ctrl-C or SIGTERM. It and every exception of a function that was
        given has the attribute `result`, with what was found until then.

    Warns:
      UserWarning: no solution had a finite value, so that the result is the start.

    Example:
      >>> result = jaxes.maximize(lambda x: -jnp.sum((x - 3) ** 2), jnp.zeros(10))
      >>> result.value, result.evaluations, result.reason

    References: Hansen, arXiv:1604.00772, appendix B.3 (termination); Auger & Hansen, A restart CMA
    evolution strategy with increasing population size (CEC 2005); Hansen, Benchmarking a
    bi-population CMA-ES on the BBOB-2009 function testbed (GECCO 2009).
    """
    check("fitness_fn", fitness_fn, callable(fitness_fn), "a function")
    _check_options(host, target, restarts, max_restarts, termination, seed)
    check("resume", resume, isinstance(resume, bool | SearchResult), "True, False or a result")
    check_shell(run_dir, resume is True, callback)
    make = _maker(strategy, population_size, restarts)
    keys: Any = search_keys(np.uint32(seed), prng()) if callable(mean) else None
    first_mean = as_array(mean(keys[0]) if callable(mean) else mean)
    with precision_of(first_mean):
        space = flatten(first_mean, std, bounds)
        dim = space.layout.size
        size = _first_size(make, dim, population_size)
        budget = max(10_000 * dim, 100 * size) if budget is None else budget
        check_count("budget", budget, minimum=size, maximum=2**62, why=", one generation")
        _check_doublings(make, size, max_restarts if restarts != "none" else 0, budget)

        @functools.cache
        def mean_of(index: int) -> Any:
            if not callable(mean):
                return first_mean
            return as_array(mean(jax.random.fold_in(keys[0], index)))

        if target is not None:
            largest = float(np.finfo(space.layout.dtype).max)
            allowed = f"within ±{largest:.3g}, the range of {space.layout.dtype}"
            check("target", target, abs(target) <= largest, allowed)
        space.coordinates(mean_of(0))
        task = Task(
            make=make,
            mean=mean_of,
            space=space,
            objective=None if host else trace(fitness_fn, space),
            fitness_fn=fitness_fn,
            size=size,
            budget=budget,
            target=target,
            restarts=restarts,
            max_restarts=max_restarts,
            termination=termination,
            seed=seed,
        )
        return _drive(task, mean, run_dir, resume, callback)


def _drive(
    task: Task, mean: Any, run_dir: Any, resume: bool | SearchResult, callback: Callback | None
) -> SearchResult:
    """Runs the search, from where it was left if there is something to go on with."""
    identity = _identity(task, mean)
    directory = None if run_dir is None else Path(run_dir)
    with contextlib.ExitStack() as stack:
        if directory is not None:
            here = {"search": identity}
            claim = stack.enter_context(open_run_dir(directory, here, resume is True, None, FILES))
        drive = stack.enter_context(Drive(task, identity, directory, callback))
        progress = None
        if directory is not None and resume is True:
            progress = load(directory, identity, lambda used: task.start(used).template())
        elif isinstance(resume, SearchResult):
            progress = resume.progress
            if progress is None:
                raise ValueError("resume must be a result with its progress, which this one lost")
            check_same("the search to go on with", progress.identity, identity)
        if progress is not None:
            drive.go_on_from(progress)
        if directory is not None:
            claim()
            stack.enter_context(noting_the_end(directory))
        return drive.run()


def _identity(task: Task, mean: Any) -> dict[str, Any]:
    """What must be the same of a search that is gone on with, as plain data."""
    strategy = task.make(task.size)
    box = task.space.box
    identity = {
        "minimized": getattr(task.fitness_fn, "minimized", False),
        "seed": task.seed,
        "random numbers": prng(),
        "dtype": str(task.space.layout.dtype),
        "shapes": str(task.space.layout.shapes),
        "population_size": task.size,
        "restarts": task.restarts,
        "strategy": spec_of(strategy) or "one of your own",
        "hparams": paths(strategy.hparams),
        "host": task.objective is None,
        "mean": "a function" if callable(mean) else digest(mean),
        "std": digest(task.space.scale),
        "bounds": None if box is None else digest(tuple(box)),
        "termination": {
            name: repr(float(limit)) for name, limit in task.termination._asdict().items()
        },
    }
    return json.loads(json.dumps(identity, default=lambda number: np.asarray(number).tolist()))


def minimize(
    fitness_fn: Callable[[Any], Any],
    mean: Any,
    strategy: Strategy | Callable[[int], Strategy] | None = None,
    *,
    target: float | None = None,
    callback: Callback | None = None,
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
        if isinstance(value, jax.core.Tracer) and lib is np:
            return value  # for maximize to refuse
        if lib is np or isinstance(value, bool | int | float):
            value = lib.asarray(value)
        dtype = getattr(value, "dtype", np.dtype(object))
        numbers = jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)
        # What is no number is for maximize to refuse.
        if not numbers:
            return value
        return -(value if jnp.issubdtype(dtype, jnp.inexact) else value.astype(lib.float32))

    negative.minimized = True  # type: ignore[attr-defined]

    def upside_down(result: SearchResult) -> SearchResult:
        return result._replace(value=-result.value)

    check("fitness_fn", fitness_fn, callable(fitness_fn), "a function")
    if target is not None:
        check_number("target", target)
    if callable(callback):
        show = callback
        callback = lambda result: show(upside_down(result))  # noqa: E731
    goal = None if target is None else -target
    try:
        result = maximize(negative, mean, strategy, target=goal, callback=callback, **options)
    except BaseException as error:
        if isinstance(found := getattr(error, "result", None), SearchResult):
            error.result = upside_down(found)  # type: ignore[attr-defined]
        raise
    return upside_down(result)


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
    factory = functools.partial(cma_es, sigma=1.0) if strategy is None else strategy

    def make(size: int) -> Strategy:
        made = factory(size)
        check("strategy", made, isinstance(made, Strategy), allowed)
        fits = made.population_size == size
        check("strategy", made.population_size, fits, f"of the {size} members it was asked for")
        return made

    return make
