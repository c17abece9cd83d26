"""The compiled halves of a search, and how few of them there are.

Restarts want populations of many sizes, and each size would be a program. But in CMA-ES the size is
only in its constants: weights by rank and learning rates. So a start may run in a population padded
to a few sizes, with the constants of the true one as arguments; members that are not real are never
evaluated and have no weight. What else a start depends on is an argument too, and programs are kept
by what the function computes: a second search of the same function and shapes compiles nothing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxes import weights
from jaxes.core import State, Strategy
from jaxes.optimize.bounds import Box
from jaxes.optimize.space import Layout, Space
from jaxes.optimize.start import (
    Setting,
    StartState,
    Termination,
    begin_start,
    next_generation,
    tell_start,
)
from jaxes.search import CANNOT_BE_TRACED, check_scalar, without_nan
from jaxes.specs import spec_of
from jaxes.strategies import STRATEGIES, cma_es, sep_cma_es

# The strategies whose population size is in these constants alone.
CONSTANTS = {"cma_es": cma_es.constants, "sep_cma_es": sep_cma_es.constants}
STEP = 8  # from one padded size to the next: few programs, and chunks of an eighth waste little
KEPT = 32  # programs of the last searches

_distinct = itertools.count()


class Objective(NamedTuple):
    """What a fitness function of x `[D]` computes, as data.

    Attributes:
      text: the same for functions that compute the same of captured arrays of the same shapes.
      jaxpr: the computation.
      captured: the arrays that it takes from outside, arguments of the program.
    """

    text: str
    jaxpr: Any
    captured: list[Any]


def computed(jaxpr: Any, captured: list[Any], x: Array) -> Array:
    """The fitness `[]` of x `[D]`."""
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, captured))(x)[0]


def trace(fitness_fn: Callable[[Any], Any], space: Space) -> Objective:
    """Traces the function once; nothing is compiled.

    Raises:
      TypeError: it is a host function.
      ValueError: it returns anything else than one real number, or captures a traced value.
    """

    def fn(x: Array) -> Any:
        return fitness_fn(space.layout.unravel(x))

    example = jax.ShapeDtypeStruct((space.layout.size,), space.layout.dtype)
    try:
        check_scalar("fitness_fn", fn, example)
        closed = jax.make_jaxpr(lambda x: jnp.asarray(fn(x), x.dtype))(example)
    except CANNOT_BE_TRACED as error:
        raise TypeError(
            "fitness_fn cannot be traced by JAX; with host=True it is called with NumPy arrays "
            f"[N, ...] instead, and returns [N] ({str(error).splitlines()[0]})"
        ) from error
    if any(isinstance(const, jax.core.Tracer) for const in closed.consts):
        raise ValueError(
            "fitness_fn must capture known values: a search cannot be a part of a jitted or "
            "vmapped function, an update step can; got a traced one"
        )
    return Objective(_text(closed, example), closed.jaxpr, closed.consts)


def _text(closed: Any, x: Any) -> str:
    """What a function lowers to, as the programs use it: for several x at once."""
    captured = [jax.ShapeDtypeStruct(np.shape(c), jnp.result_type(c)) for c in closed.consts]
    several = jax.vmap(functools.partial(computed, closed.jaxpr), in_axes=(None, 0))
    # What is captured in vain keeps its place, or another's program would take it for its own.
    jitted = jax.jit(several, keep_unused=True)
    text = jitted.lower(captured, jax.ShapeDtypeStruct((2, *x.shape), x.dtype)).as_text()
    if "callback" in text:  # an address, which another function may have next time
        return f"{next(_distinct)} {text}"
    return text


class Arguments(NamedTuple):
    """All that a program takes, but for the progress."""

    seed: Any  # uint32
    number: Any  # int32, of the start
    scale: Any  # [D]
    box: Box | None
    hparams: Any  # of the strategy
    target: Any  # []
    termination: Termination
    size: Any  # int32, how many members are real
    constants: Any  # of that many, padded; None where all are real
    captured: list[Any]  # by the fitness function


@dataclasses.dataclass(frozen=True)
class Kind:
    """What distinguishes one search's programs from another's; shapes, dtypes and whether there are
    bounds are told apart by jit.

    Attributes:
      strategy: what the strategy is, but for its size where this can be padded.
      text: what the fitness function computes; None where it is a host function.
      length: of the history, for the smallest population.
      prng: JAX's random number generator, which jit does not tell apart.
      make: `(population size, padded constants or None) -> Strategy`.
      jaxpr: of the fitness function.
    """

    strategy: Hashable
    text: str | None
    length: int
    prng: str
    make: Callable[[int, Any], Strategy] = dataclasses.field(compare=False)
    jaxpr: Any = dataclasses.field(compare=False)


class Programs:
    """Those of one kind; each is compiled when it is first called, and once a padded size."""

    def __init__(self, kind: Kind):
        self.kind = kind
        self.begin = jax.jit(self._begin, static_argnums=0)
        self.generations = jax.jit(self._generations, static_argnums=0, donate_argnums=2)
        self.ask = jax.jit(self._ask, static_argnums=0)
        self.tell = jax.jit(self._tell, static_argnums=0)

    def _setting(self, size: int, arguments: Arguments) -> Setting:
        strategy = self.kind.make(size, arguments.constants)._replace(hparams=arguments.hparams)
        if padded := arguments.constants is not None:
            strategy = with_first(strategy, arguments.size)
        return Setting(
            strategy=strategy,
            scale=arguments.scale,
            box=arguments.box,
            fitness_fn=functools.partial(computed, self.kind.jaxpr, arguments.captured),
            target=arguments.target,
            termination=arguments.termination,
            size=arguments.size,
            padded=padded,
        )

    def _key(self, arguments: Arguments) -> Array:
        """Of the start's generations."""
        key = search_keys(arguments.seed, self.kind.prng)[1]
        return jax.random.fold_in(key, arguments.number)

    def _begin(self, size: int, arguments: Arguments, u: Array) -> StartState:
        return begin_start(self._setting(size, arguments), u, self.kind.length)

    def _generations(
        self, size: int, arguments: Arguments, progress: StartState, limit: Array
    ) -> StartState:
        """Up to the generation `limit`, or the end of the start."""
        setting, key = self._setting(size, arguments), self._key(arguments)

        def generation(progress: StartState) -> StartState:
            this_key = jax.random.fold_in(key, progress.search.generation)
            return next_generation(setting, this_key, progress)

        def going_on(progress: StartState) -> Array:
            return (progress.reason == 0) & (progress.search.generation < limit)

        return jax.lax.while_loop(going_on, generation, progress)

    def _ask(self, size: int, arguments: Arguments, progress: StartState) -> Array:
        """The members x `[N, D]` of the next generation."""
        state = progress.search
        key = jax.random.fold_in(self._key(arguments), state.generation)
        return self._setting(size, arguments).search().strategy.ask(key, state.strategy)

    def _tell(
        self, size: int, arguments: Arguments, progress: StartState, x: Array, fitness: Array
    ) -> StartState:
        key = jax.random.fold_in(self._key(arguments), progress.search.generation)
        return tell_start(self._setting(size, arguments), key, progress, x, fitness)


@functools.lru_cache(maxsize=KEPT)
def programs(kind: Kind) -> Programs:
    return Programs(kind)


def prng() -> str:
    """JAX's random number generator now."""
    return str(jax.config.jax_default_prng_impl)  # type: ignore[attr-defined]


@functools.partial(jax.jit, static_argnames="prng")
def search_keys(seed: Any, prng: str) -> Array:
    """The keys `[2]` of the means and of the generations."""
    return jax.random.split(jax.random.key(seed, impl=prng))


class Recipe(NamedTuple):
    """What a strategy is, and how it is made.

    Attributes:
      key: equal for strategies that are the same, but for their size where this can be padded.
      name: in `CONSTANTS`; None where the size cannot be padded.
      make: `(population size, padded constants or None) -> Strategy`.
    """

    key: Hashable
    name: str | None
    make: Callable[[int, Any], Strategy]


def recipe(strategy: Strategy) -> Recipe:
    spec = spec_of(strategy)
    if spec is None:
        return Recipe(id(strategy), None, lambda size, constants: strategy)
    name = spec["name"]
    if name not in CONSTANTS or spec[name]["sampling"] == "sobol":  # of so many points at most
        return Recipe(str(spec), None, lambda size, constants: strategy)

    def make(size: int, constants: Any) -> Strategy:
        own = {} if constants is None else {"constants": lambda *_: constants}
        return STRATEGIES[name](size, **spec[name], **own)

    return Recipe(f"{name} {spec[name]}", name, make)


def pad(recipe: Recipe, size: int, first: int, layout: Layout) -> tuple[int, Any]:
    """The population in which `size` members run, and their constants, to be traced.

    It is `first` times a power of `STEP`, the least that has room for them, and there is no weight
    for the others. Where there are none, or the strategy cannot be padded, the constants are None.
    """
    if recipe.name is None or size <= first:
        return size, None
    padded = first
    while padded < size:
        padded *= STEP
    constants = CONSTANTS[recipe.name](size, layout.size)
    constants = constants._replace(weights=np.pad(constants.weights, (0, padded - size)))
    as_number = functools.partial(np.asarray, dtype=layout.dtype)
    traced = jax.tree.map(as_number, constants)
    return padded, traced._replace(eigen_gap=np.int32(constants.eigen_gap))


def with_first(strategy: Strategy, count: Array) -> Strategy:
    """The strategy of a padded population, whose first `count []` members alone are real."""

    def tell(key: Array, state: State, fitness: Array) -> State:
        real = jnp.arange(fitness.size, dtype=jnp.int32) < count
        # Real ones share no rank with the others: the least of them is still a finite number.
        least = jnp.finfo(fitness.dtype).min
        ranked = jnp.where(real, jnp.maximum(without_nan(fitness), least), -jnp.inf)
        informative = weights.is_informative(jnp.where(real, fitness, jnp.nan))
        return jax.lax.cond(informative, lambda: strategy.tell(key, state, ranked), lambda: state)

    return strategy._replace(tell=tell)
