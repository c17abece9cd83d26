"""What all strategies share: the binding of a module's functions into a `Strategy`."""

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxes import gaussian, parallel, weights
from jaxes.checks import check, check_count, check_name
from jaxes.core import HParams, State, Strategy
from jaxes.weights import Weights

P = ParamSpec("P")
Sampling = gaussian.SchemeName | gaussian.Scheme


def bind(
    init: Callable[..., State],
    ask: Callable[..., Array],
    tell: Callable[..., State],
    hparams: HParams,
    population_size: int,
    *,
    sampling: Sampling = "independent",
    chunk_size: int = gaussian.CHUNK_SIZE,
    frozen_by_ties: bool = True,
    holds: bool = True,
) -> Strategy:
    """A `Strategy` from an algorithm's three functions.

    Adds what holds for every strategy: `ask` of all members by default, hyperparameters in the
    dtype of the mean, shapes checked at trace time, a `tell` that leaves the state as it was where
    fitness says nothing (all equal, or all NaN), and both compiled once where they are called by
    hand.

    Args:
      init: `(mean [D], hparams) -> state`.
      ask: `(key, state, members [M], *, sampler) -> solutions [M, D]`.
      tell: `(key, state, fitness [N], *, sampler) -> state`.
      hparams: the defaults, a NamedTuple of numbers.
      population_size: N.
      sampling: a scheme of `jaxes.gaussian`, or its name; with `chunk_size` it makes the `sampler`.
      chunk_size: the members whose noise `tell` holds at once, at least 1.
      holds: False for a strategy that draws more from its key than noise.
      frozen_by_ties: False for a strategy that judges itself whether equal fitness says something.

    Raises:
      ValueError: an unknown `sampling`, or one that cannot draw this population.
    """
    check_count("chunk_size", chunk_size)
    sampler = gaussian.Sampler(scheme(sampling, population_size), population_size, chunk_size)
    defaults = hparams

    def bound_init(mean: Array, hparams: HParams = hparams) -> State:
        mean = jnp.asarray(mean)
        if mean.ndim != 1 or mean.dtype not in (jnp.float32, jnp.float64):
            raise ValueError(
                "mean must be a float vector [D] of 32 or 64 bits, "
                f"got {mean.dtype}{list(mean.shape)}"
            )
        check("mean", list(mean.shape), mean.size > 0, "a vector of at least one number")
        strong = partial(jnp.asarray, dtype=mean.dtype)  # a weak type would compile twice
        check("hparams", hparams, type(hparams) is type(defaults), f"like {defaults}")
        for field, value in zip(defaults._fields, hparams, strict=True):
            number = isinstance(value, Array | np.ndarray | np.number | int | float)
            got = list(value.shape) if number and np.ndim(value) else value
            allowed = "one number (vmap over several)"
            check(f"hparams.{field}", got, number and np.ndim(value) == 0, allowed)
        state = init(strong(mean), jax.tree.map(strong, hparams))
        return jax.tree.map(jnp.copy, state)  # no two leaves share a buffer: they can be donated

    def bound_ask(key: Array, state: State, members: Array | None = None) -> Array:
        if members is None:
            members = jnp.arange(population_size, dtype=jnp.int32)
        return ask(key, state, jnp.asarray(members, jnp.int32), sampler=sampler.of(key))

    def bound_tell(key: Array, state: State, fitness: Array) -> State:
        fitness = jnp.asarray(fitness)
        check("fitness", str(fitness.dtype), not jnp.iscomplexobj(fitness), "real")
        if fitness.shape != (population_size,):
            raise ValueError(
                f"fitness must have the shape [{population_size}] of the population, "
                f"got {list(fitness.shape)}"
            )
        fitness = fitness.astype(state.mean.dtype)
        far = float(jnp.finfo(fitness.dtype).max) ** 0.75  # where sums with it stay finite

        def move() -> State:
            moved = tell(key, state, fitness, sampler=sampler.of(key))
            return moved._replace(mean=jnp.clip(moved.mean, -far, far))

        if not frozen_by_ties:
            return move()
        return jax.lax.cond(weights.is_informative(fitness), move, lambda: state)

    # By hand each call would compile its loops anew; inside a program this leaves no trace.
    ask_once, tell_once = (jax.jit(fn, inline=True) for fn in (bound_ask, bound_tell))

    def hold(key: Array, state: State) -> gaussian.Held:
        members = jnp.arange(population_size, dtype=jnp.int32)
        return gaussian.Held(key, sampler(key, members, state.mean))

    return Strategy(
        bound_init,
        ask_once,
        tell_once,
        hparams,
        population_size,
        hold=hold if holds else None,
    )


def without_weights(why: str) -> Callable[[Callable[P, Strategy]], Callable[P, Strategy]]:
    """Decorates the factory of a strategy whose weights are its own: another's are refused."""

    def decorate(factory: Callable[P, Strategy]) -> Callable[P, Strategy]:
        @functools.wraps(factory)
        def checked(*args: P.args, **kwargs: P.kwargs) -> Strategy:
            if "weights" in kwargs:
                raise ValueError(f"weights cannot be chosen for {factory.__name__}: {why}")
            return factory(*args, **kwargs)

        return checked

    return decorate


def scheme(sampling: Sampling, population_size: int) -> gaussian.Scheme:
    """The sampling scheme of that name, or the one given, if it can draw this population.

    Raises:
      ValueError: it cannot, or the name is unknown.
    """
    if isinstance(sampling, str):
        check_name("sampling", sampling, gaussian.SCHEMES)
        sampling = gaussian.SCHEMES[sampling]
    check("sampling", sampling, callable(sampling), "a scheme of jaxes.gaussian, or its name")
    check_population_size(population_size, 1, even=sampling is gaussian.antithetic)
    maximum = 2**gaussian.SOBOL_BITS
    if sampling is gaussian.sobol and population_size > maximum:
        check_count("population_size", population_size, maximum=maximum, why=" for sobol points")
    return sampling


def shaping(weights_fn: Weights | str, total: int | None = None, why: str = "") -> Weights:
    """The weights function of that name, or the one given, if the strategy can use it.

    Args:
      weights_fn: the function, or the name of one in `jaxes.weights`.
      total: what the weights must sum to; None where anything will do.
      why: the reason, for the message.

    Raises:
      ValueError: an unknown name, or weights that are not declared to sum to `total`.
    """
    if isinstance(weights_fn, str):
        check_name("weights", weights_fn, weights.WEIGHTS)
        weights_fn = weights.WEIGHTS[weights_fn]
    check(
        "weights",
        weights_fn,
        callable(weights_fn),
        "a function of fitness, or a name in jaxes.weights",
    )
    given = weights.total(weights_fn)
    if total is not None and given != total:
        name = getattr(weights_fn, "__name__", repr(weights_fn))
        sums = "undeclared (see jaxes.weights.sums_to)" if given is None else given
        raise ValueError(f"weights must sum to {total}: {why}; the sum of {name} is {sums}")

    def checked(fitness: Array, *fraction: Array) -> Array:
        shaped = weights_fn(fitness, *fraction)
        one_each = jnp.shape(shaped) == fitness.shape
        check("weights", jnp.shape(shaped), one_each, f"one for each fitness, {fitness.shape}")
        return shaped

    return checked


def keep_in_range(step_size: Array) -> Array:
    """Step sizes bounded so that their squares do not vanish, nor products of four overflow."""
    limits = jnp.finfo(step_size.dtype)
    return jnp.clip(step_size, float(limits.tiny) ** 0.5, largest(step_size.dtype))


def largest(dtype: DTypeLike) -> float:
    """The greatest step size: 4e9 in float32. What grows without end stops growing there."""
    return float(jnp.finfo(dtype).max) ** 0.25


def eigendecompose(C: Array) -> tuple[Array, Array, Array]:
    """`s [...]`, `B [..., D, D]` and `D [..., D]`: `C + sI = B diag(D²) Bᵀ`, C symmetric.

    Reads the lower triangle alone. s is 0, unless an eigenvalue is less than what rounding leaves
    meaningful beside the greatest; it is then raised to that.
    """
    eigh = parallel.one_by_one(partial(jnp.linalg.eigh, symmetrize_input=False))
    eigenvalues, B = jnp.vectorize(eigh, signature="(n,n)->(n),(n,n)")(C)
    precision = jnp.finfo(C.dtype)
    minimum = jnp.maximum(precision.eps * eigenvalues[..., -1:], precision.tiny)
    shift = jnp.maximum(0, minimum - eigenvalues[..., :1])
    return shift[..., 0], B, jnp.sqrt(jnp.maximum(eigenvalues + shift, minimum))


def check_population_size(
    population_size: Any, minimum: int, *, even: bool = False, why: str = ""
) -> None:
    """Raises a ValueError unless `population_size` is a whole number that the strategy can use."""
    check_count("population_size", population_size, minimum, why=why)
    check("population_size", population_size, not (even and population_size % 2), "even for pairs")


def check_elites(population_size: Any, elite_fraction: float, least_elites: float) -> None:
    """Raises a ValueError if `elite_fraction · population_size` is less than `least_elites`."""
    minimum = max(2, math.ceil(least_elites / elite_fraction - 1e-9))
    check_population_size(population_size, minimum, why=f" with elite_fraction={elite_fraction}")
