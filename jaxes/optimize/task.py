"""What is searched, and what each of its starts runs with."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxes import devices
from jaxes.checks import check, kinds
from jaxes.core import Strategy
from jaxes.optimize import programs as compiled
from jaxes.optimize.programs import Arguments, Kind, Objective, Programs
from jaxes.optimize.restarts import Restarts, Start, patience, plan_after
from jaxes.optimize.space import Space
from jaxes.optimize.start import StartState, Termination, memory


class Task(NamedTuple):
    """What is searched, and how.

    Attributes:
      make: from a population size to a strategy.
      mean: `(index of the start) -> pytree`.
      space: of its vectors.
      objective: the traced function; None where it is a host function.
      fitness_fn: the function as it was given.
      size: members of the first start.
    """

    make: Callable[[int], Strategy]
    mean: Callable[[int], Any]
    space: Space
    objective: Objective | None
    fitness_fn: Callable[[Any], Any]
    size: int
    budget: int
    target: float | None
    restarts: Restarts
    max_restarts: int
    termination: Termination
    seed: int

    def number(self, value: float | None) -> Any:
        """The value in the dtype of the search, as its programs see it; NaN for None."""
        with np.errstate(over="ignore"):  # of a criterion that is as good as off
            return self.space.layout.dtype.type(np.nan if value is None else value)

    def plan(self, used: tuple[int, ...]) -> Start | None:
        """The start after those that have used so many evaluations; None after the last."""
        return plan_after(used, self.restarts, self.size, self.max_restarts, self.seed)

    def start(self, used: tuple[int, ...]) -> "Run":
        """What the start after those runs with.

        Raises:
          ValueError: there is none, because `max_restarts` is less than it was.
        """
        plan = self.plan(used)
        if plan is None:
            raise ValueError(
                f"max_restarts must be enough for the {len(used) + 1} starts that there were, got "
                f"{self.max_restarts}"
            )
        layout, objective = self.space.layout, self.objective
        space = self.space._replace(scale=self.space.scale * self.number(plan.std_factor))
        strategy = self.make(plan.population_size)
        recipe = compiled.recipe(strategy)
        size, constants = compiled.pad(recipe, plan.population_size, self.size, layout)
        kind = Kind(
            strategy=recipe.key,
            text=None if objective is None else objective.text,
            length=memory(layout.size, self.size),
            prng=compiled.prng(),
            make=recipe.make,
            jaxpr=None if objective is None else objective.jaxpr,
        )
        arguments = Arguments(
            seed=np.uint32(self.seed),
            number=np.int32(len(used)),
            scale=space.scale,
            box=space.box,
            hparams=jax.tree.map(partial(np.asarray, dtype=layout.dtype), strategy.hparams),
            target=self.number(self.target),
            termination=Termination(*map(self.number, self.termination)),
            size=np.int32(plan.population_size),
            constants=constants,
            captured=[] if objective is None else objective.captured,
        )
        return Run(self, used, plan, space, compiled.programs(kind), size, arguments)


class Run(NamedTuple):
    """A start of a task: its plan, and the programs that run it.

    Attributes:
      used: the evaluations of the starts before it.
      space: it may have steps of its own.
      size: of the population in the programs, of which `plan.population_size` members are real.
    """

    task: Task
    used: tuple[int, ...]
    plan: Start
    space: Space
    programs: Programs
    size: int
    arguments: Arguments

    @property
    def limit(self) -> int:
        """The generations that it may take."""
        left = min(self.task.budget - sum(self.used), self.plan.budget)
        limit = int(left) // self.plan.population_size
        if self.task.restarts != "none":
            limit = min(limit, patience(self.space.layout.size, self.plan.population_size))
        return max(limit, 1)

    def template(self) -> StartState:
        """The shapes and dtypes of its state. Nothing is computed."""
        mean = np.zeros(self.space.layout.size, self.space.layout.dtype)
        return jax.eval_shape(partial(self.programs.begin, *self._first()), mean)

    def begin(self) -> StartState:
        """Its state before the first generation.

        Raises:
          ValueError: its mean is none of the space, or the memory is not there.
        """
        u = self.space.coordinates(self.task.mean(len(self.used)))
        devices.check_memory(self.template(), self.space.layout.size)
        state = self.programs.begin(*self._first(), u)
        if isinstance(state.reason, jax.core.Tracer):
            raise ValueError(
                "a search cannot be a part of a jitted function, an update step can (jaxes.search)"
            )
        return state

    def generations(self, state: StartState, limit: int) -> StartState:
        """The state at the generation `limit`, or at its end. Takes the buffers of `state`."""
        return self.programs.generations(self.size, self.arguments, state, np.int32(limit))

    def ask(self, state: StartState) -> Any:
        """The members x `[N, D]` of the next generation, of which the first are real."""
        return self.programs.ask(self.size, self.arguments, state)

    def tell(self, state: StartState, x: Any, fitness: np.ndarray) -> StartState:
        """The state after a generation in which the real members had this fitness."""
        padded = np.full(self.size, -np.inf, self.space.layout.dtype)
        padded[: fitness.size] = fitness
        return self.programs.tell(self.size, self.arguments, state, x, padded)

    def check(self, state: StartState) -> None:
        """Raises a ValueError for a state of another search."""
        same = kinds(state) == kinds(self.template())
        check("resume", "another", same, "of this strategy, dtype and number of dimensions")

    def _first(self) -> tuple[int, Arguments]:
        """It begins alike in any population that can be padded: compiled for the first one."""
        size = self.size if self.arguments.constants is None else self.task.size
        return size, self.arguments._replace(constants=None)
