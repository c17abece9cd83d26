"""The whole system on one page: what a strategy is, what a problem is, and the update step.

A strategy moves a search distribution over parameter vectors; a problem says how good a vector is.
One generation is three moves, and `make_generation` writes them down:

    ask       population = members of the distribution, a function of (key, member)
    evaluate  fitness    = the problem's verdict on each member
    tell      state      = the distribution moved by that fitness

Fitness is maximized. Letters, here and everywhere, of shapes `[N, D]`:

    N  members of the population     D  dimensions: parameters of a solution
    M  some of the members, or jobs  P  parents
    E  test episodes                 T  trials of a sweep, side by side
    J  jobs: episodes in a queue     K  keys that jobs start from
    L  lanes, which run jobs         O, A  numbers of an observation, of an action
    B  trials in one program         R  jobs that begin at once

The key is the population: member i is a pure function of (key, i), so a population is never stored.
Whoever holds the key can rebuild any part of it, as `tell` does from the same key as `ask`
(Salimans et al. 2017, Algorithm 2: "reconstruct all perturbations from known random seeds").
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxes import devices, parallel
from jaxes.checks import check, check_count, failing, is_array, is_number, kinds, show
from jaxes.hparams import paths

State = Any  # a pytree of arrays; each strategy and each problem has its own
HParams = Any  # a NamedTuple of numbers: all traced, so that a sweep is a vmap over them
UpdateStep = Callable[..., tuple["TrainState", dict[str, Array]]]  # see `make_update_step`
Generation = Callable[..., tuple["TrainState", dict[str, Array], "AnyTests | None"]]

TRAIN, TEST, IDLE = 0, 1, 2  # what a call of the update step is for
TAKEN = {"fitness", "test", "time"}  # groups of metrics that are not the problem's
DRAWN = ("randomized", "held_out")  # last parts of the names of tests that are not the base's


class Strategy(NamedTuple):
    """A search distribution and the rule that moves it: pure functions and what is static.

    Attributes:
      init: `(mean [D], hparams=defaults) -> state`. `mean` fixes the dtype of the whole state.
      ask: `(key, state, members [M] = all) -> solutions [M, D]`, any subset of the population.
      tell: `(key, state, fitness [N]) -> state`, with the key that `ask` had.
      hparams: the defaults that the factory was given.
      population_size: N, the number of members evaluated in a generation.
      spec: what a config says of it, or None (see `jaxes.specs`).
      hold: `(key, state) -> key`, a key for `ask` and `tell` with which the noise of the whole
        population is drawn once and held, `[N, D]`, instead of drawn by each; None where the noise
        is not all that is drawn.

    Every state has the field `mean [D]`, the point that the strategy would answer with.
    """

    init: Callable[..., State]
    ask: Callable[..., Array]
    tell: Callable[[Array, State, Array], State]
    hparams: HParams
    population_size: int
    spec: Mapping[str, Any] | None = None
    hold: Callable[[Array, State], Any] | None = None


class Tests(NamedTuple):
    """The test episodes of the population's mean, each array of the shape [E].

    Attributes:
      returns: floats, undiscounted; of one that diverged, as far as it got.
      length: int32, steps.
      diverged: bool, whether the simulation left the finite numbers.
      truncated: bool, whether it was cut at its bound, while it could have gone on.
      measures: floats by name, what else the environment tells.
    """

    returns: Array
    length: Array
    diverged: Array
    truncated: Array
    measures: dict[str, Array] | None = None


AnyTests = Tests | dict[str, Tests]  # by name: see `is_base`


def is_base(name: str) -> bool:
    """Whether tests of this name, parts of which `/` separates, are of the system as it is: `base`,
    or a task's name. The last part `randomized` says that it is drawn as in training, `held_out`
    that it is drawn from a range for tests alone."""
    return name.rpartition("/")[2] not in DRAWN


class Evaluation(NamedTuple):
    """What a problem says of a population.

    Attributes:
      fitness: `[N]`, maximized. NaN marks a member that could not be judged; it ranks worst.
      problem_state: the problem's state for the next generation.
      metrics: scalars by name (`group/name`).
      tests: of the mean, where that was asked for, zeros otherwise; or several by name, of which
        those of base systems count (see `is_base`).
    """

    fitness: Array
    problem_state: State
    metrics: dict[str, Array]
    tests: AnyTests | None = None


class Evaluate(Protocol):
    """`(key, population, problem_state, phase=TRAIN) -> Evaluation`.

    Where `phase` (possibly traced) is `TEST`, the population's mean is judged in fresh episodes in
    the members' place, and only `tests` counts; where it is `IDLE`, nothing needs to be judged. It
    is an argument, so that all are the same compiled physics.
    """

    def __call__(
        self, key: Array, population: "Population", problem_state: State, phase: Any = TRAIN
    ) -> Evaluation: ...


class Problem(NamedTuple):
    """Something to maximize.

    Attributes:
      init: `(key, hparams=defaults) -> problem_state` (observation statistics, ...).
      evaluate: see `Evaluate`.
      initial_mean: `(key) -> mean [D]`, where the search starts.
      hparams: the defaults that the factory was given.
      environment: of a policy search, its `jaxes.Environment`.
      policy: of a policy search, `(mean [D], problem_state) -> Policy`, whose `init` gives these
        parameters; from raw observations it gives what `environment.step` takes.
      episodes: of a policy search, its `jaxes.problems.policy_search.Episodes`.
      tasks: of a search over several, their environments by name, as the policy meets them.
      spec: what a config says of it, or None (see `jaxes.specs`).
    """

    init: Callable[..., State]
    evaluate: Evaluate
    initial_mean: Callable[[Array], Array]
    hparams: HParams
    environment: Any = None
    policy: Callable[[Array, State], Any] | None = None
    episodes: Any = None
    tasks: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None

    def __hash__(self) -> int:
        return hash((self.init, self.evaluate, self.initial_mean))  # mappings do not


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Population:
    """The members of one generation, as a function: `population(members [M]) -> solutions [M, D]`,
    for all of them, for a device's share, or for the next ones in a queue."""

    ask: Callable[..., Array] = dataclasses.field(metadata={"static": True})
    key: Array
    state: State
    size: int = dataclasses.field(metadata={"static": True})

    def __call__(self, members: Array | None = None) -> Array:
        return self.ask(self.key, self.state, members)

    @property
    def mean(self) -> Array:
        """The point `[D]` that the strategy would answer with."""
        return self.state.mean


class TrainState(NamedTuple):
    """All that a run is, but for its key: int32 `generation []`, strategy state, problem state."""

    generation: Array
    strategy: State
    problem: State


class TrainHParams(NamedTuple):
    """The numbers of a run that are traced: the strategy's and the problem's."""

    strategy: HParams
    problem: HParams


def init(
    key: Array,
    strategy: Strategy,
    problem: Problem,
    hparams: TrainHParams | None = None,
    mesh: Mesh | None = None,
) -> TrainState:
    """The state before the first generation of a strategy on a problem.

    Args:
      key: a typed key (`jax.random.key(seed)`), consumed.
      hparams: replaces the defaults of both factories; leaves may be traced.
      mesh: the devices that get a copy; all local ones by default.

    Raises:
      ValueError: an argument of another kind, or the hyperparameters of another strategy.
    """
    check_parts(strategy, problem)
    defaults = TrainHParams(strategy.hparams, problem.hparams)
    hparams = hparams or defaults
    check("hparams", hparams, isinstance(hparams, TrainHParams), "a jaxes.TrainHParams")
    for field, given, default in zip(TrainHParams._fields, hparams, defaults, strict=True):
        same = kinds(given)[0] == kinds(default)[0]
        check(f"hparams.{field}", given, same, f"like {default}")
    mean_key, problem_key = jax.random.split(key)
    mean = _of_problem("initial_mean", problem.initial_mean, mean_key)
    vector = is_array(mean) and mean.ndim == 1 and mean.size > 0
    check("problem.initial_mean", show(mean), vector, "a function to a vector [D] of floats")
    problem_state = _of_problem("init", problem.init, problem_key, hparams.problem)
    for leaf in jax.tree.leaves(problem_state):
        known = is_number(leaf) or is_array(leaf, jax.dtypes.prng_key)
        check("problem.init", show(problem_state), known, "a function to arrays of numbers or keys")
    check_fits(hparams, mean.dtype)
    devices.check_memory(jax.eval_shape(strategy.init, mean, hparams.strategy), mean.size)
    state = TrainState(
        generation=jnp.zeros((), jnp.int32),
        strategy=strategy.init(mean, hparams.strategy),
        problem=problem_state,
    )
    return parallel.place(state, mesh)


def make_generation(strategy: Strategy, problem: Problem, mesh: Mesh | None = None) -> Generation:
    """All of one generation: `generation(key, state, phase=TRAIN) -> (state, metrics, tests)`."""
    check_parts(strategy, problem)

    def on_a_device(key: Array, state: TrainState, phase: Array) -> tuple:
        ask_key, evaluate_key = jax.random.split(key)
        population = Population(strategy.ask, ask_key, state.strategy, strategy.population_size)
        evaluation = evaluated(problem, evaluate_key, population, state.problem, phase)
        updated = TrainState(
            generation=state.generation + 1,
            strategy=strategy.tell(ask_key, state.strategy, evaluation.fitness),
            problem=evaluation.problem_state,
        )
        state = jax.tree.map(functools.partial(jnp.where, phase == TRAIN), updated, state)
        return state, fitness_metrics(evaluation.fitness) | evaluation.metrics, evaluation.tests

    step = parallel.replicated(on_a_device, mesh)
    return lambda key, state, phase=TRAIN: step(key, state, jnp.asarray(phase, jnp.int32))


def make_update_step(strategy: Strategy, problem: Problem, mesh: Mesh | None = None) -> UpdateStep:
    """One generation as a pure function `update_step(key, state, phase=TRAIN) -> (state, metrics)`.

    It can be jitted, scanned over generations and vmapped over states (see `jaxes.trials`). Where
    `phase` is `TEST` (`make_generation` tells of it) or `IDLE`, the state comes back as it was.

    Args:
      strategy: what searches.
      problem: what is searched.
      mesh: the devices that divide the members; all local ones by default. Jit for one mesh:
        state and key are placed on it (`jaxes.init` does so).
    """
    generation = make_generation(strategy, problem, mesh)
    return lambda key, state, phase=TRAIN: generation(key, state, phase)[:2]


def with_run_key(step: Callable) -> Callable:
    """The step, with a run's key in place of a generation's: g draws from `fold_in(key, g)`."""
    return lambda key, state, *phase: step(jax.random.fold_in(key, state.generation), state, *phase)


def run(
    update_step: UpdateStep, key: Array, state: TrainState, num_generations: int
) -> tuple[TrainState, dict[str, Array]]:
    """The state after so many generations, and their metrics, stacked. A run cut in two draws the
    same bits, because a key depends on the generation alone. Not jitted here: jit what calls it."""
    check_count("num_generations", num_generations, minimum=0)
    step = with_run_key(update_step)
    return jax.lax.scan(lambda state, _: step(key, state), state, length=num_generations)


def _of_problem(part: str, fn: Callable, *arguments: Any) -> Any:
    """What a part of a problem returns; what it raises is said to be its own, but for a ValueError,
    which says what is wrong."""
    with failing(f"problem.{part} fails", unless=lambda error: isinstance(error, ValueError)):
        return fn(*arguments)


def check_parts(strategy: Any, problem: Any) -> None:
    """Raises a ValueError unless these are a `Strategy` and a `Problem`."""
    check("strategy", strategy, isinstance(strategy, Strategy), "a Strategy, as jaxes.cem(64) is")
    allowed = "a Problem, as jaxes.problems.brax('hopper') is"
    check("problem", problem, isinstance(problem, Problem), allowed)
    for field, part in {"strategy": strategy, "problem": problem}.items():
        named = hasattr(part.hparams, "_asdict")
        check(f"{field}.hparams", part.hparams, named, "a NamedTuple of numbers, of none perhaps")


def evaluated(
    problem: Problem, key: Array, population: Population, problem_state: State, phase: Any
) -> Evaluation:
    """What a problem says of a population, after a look at it.

    Raises:
      ValueError: it fails, or says something else than `Evaluation`.
    """
    found = _of_problem("evaluate", problem.evaluate, key, population, problem_state, phase)
    check_evaluation(found, population.size, problem_state)
    return found


def check_evaluation(found: Any, population_size: int, before: State) -> None:
    """Raises a ValueError unless a problem returned the `Evaluation` of so many members, with a
    state like the one `before`."""
    check(
        "evaluate", show(found), isinstance(found, Evaluation), "a function to a jaxes.Evaluation"
    )
    if "test/returns" in found.metrics:
        raise ValueError("test/returns must be Evaluation.tests, a jaxes.Tests, not a metric")
    fitness, size = found.fitness, population_size
    real = is_array(fitness) and fitness.shape == (size,)
    check("Evaluation.fitness", show(fitness), real, f"floats of shape [{size}], one a member")
    same = kinds(found.problem_state) == kinds(before)
    check(
        "Evaluation.problem_state", show(found.problem_state), same, f"like init's, {show(before)}"
    )
    check("Evaluation.metrics", show(found.metrics), isinstance(found.metrics, dict), "a dict")
    for name, value in found.metrics.items():
        scalar = is_number(value) and jnp.shape(value) == ()
        check(f"Evaluation.metrics[{name!r}]", show(value), scalar, "a scalar")
        group = name.partition("/")[0] if isinstance(name, str) and "/" in name else None
        own = group is not None and group not in TAKEN
        allowed = f"group/name, the group none of {', '.join(sorted(TAKEN))}"
        check("the name of a metric", name, own, allowed)
    if found.tests is not None:
        _check_tests(found.tests)


def _check_tests(tests: Any) -> None:
    if not isinstance(tests, dict):
        _check_episodes("Evaluation.tests", tests)
        return
    named = all(isinstance(name, str) and all(name.split("/")) for name in tests)
    named = named and any(map(is_base, tests))
    allowed = f"strings without empty parts, not all of them ending in {' or '.join(DRAWN)}"
    check("the names of Evaluation.tests", list(tests), named, allowed)
    for name, each in tests.items():
        _check_episodes(f"Evaluation.tests[{name!r}]", each)


def _check_episodes(what: str, tests: Any) -> None:
    check(what, show(tests), isinstance(tests, Tests), "a jaxes.Tests, or a dict of them by name")
    kinds_of = {"returns": jnp.floating, "length": jnp.integer}
    for field in ("returns", "length", "diverged", "truncated"):
        array, kind = getattr(tests, field), kinds_of.get(field, jnp.bool_)
        ok = is_array(array, kind) and array.ndim == 1 and array.size > 0
        allowed = f"an array [E] of {getattr(kind, '__name__', kind)}"
        check(f"{what}.{field}", show(array), ok, allowed)
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(tests)}
    check(what, show(tests), len(shapes) == 1, "a jaxes.Tests of arrays [E]")


def check_fits(hparams: HParams, dtype: Any) -> None:
    """Raises a ValueError for a number that is infinite, or zero, in this dtype alone."""
    for name, value in paths(hparams).items():
        if isinstance(value, int | float | np.number | np.ndarray):
            with np.errstate(over="ignore", under="ignore"):
                cast = np.asarray(value).astype(dtype)
            same = np.isfinite(cast) == np.isfinite(value) and (cast == 0) == (value == 0)
            check(
                f"hparams.{name}",
                value,
                bool(np.all(same)),
                f"a number that {np.dtype(dtype)} can hold",
            )


def fitness_metrics(fitness: Array) -> dict[str, Array]:
    """Moments and range over the members that are finite, and the number of those that are not."""
    finite = jnp.where(jnp.isfinite(fitness), fitness, jnp.nan)
    return {
        "fitness/mean": jnp.nanmean(finite),
        "fitness/std": jnp.nanstd(finite),
        "fitness/max": jnp.nanmax(finite),
        "fitness/min": jnp.nanmin(finite),
        "fitness/non_finite": jnp.sum(~jnp.isfinite(fitness)),
    }
