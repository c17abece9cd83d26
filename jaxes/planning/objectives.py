"""What a plan is good for: a number folded along the steps that a model predicts."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import (
    check,
    check_count,
    check_fraction,
    check_name,
    failing,
    is_real,
    kinds,
    show,
)
from jaxes.specs import recorded

LARGEST = 1e15  # of a target: its square is still a number of float32

When = Literal["final", "every_step", "closest"]


class Moment(NamedTuple):
    """One predicted step.

    Attributes:
      observation: `[O]`, after the step; where the episode is over, the last one before.
      reward: `[]`.
      done: bool `[]`, whether the episode ends with this step.
      over: bool `[]`, whether it had ended before, as the model predicts.
      beyond: bool `[]`, whether the episode has no such step left: nothing here counts.
      step: int32 `[]`, the steps of the episode so far, with this one.
      ahead: int32 `[]`, the steps of the plan so far, from 1 to H.
    """

    observation: Array
    reward: Array
    done: Array
    over: Array
    beyond: Array
    step: Array
    ahead: Array


class Objective(NamedTuple):
    """A fold over the moments of a plan; maximized.

    Attributes:
      init: what it begins with, a pytree of arrays.
      update: `(folded, moment) -> folded`.
      value: `(folded, last moment) -> []`.
      check: `(observation_size) -> None`, raises a ValueError where it does not fit.
      spec: what a config says of it, or None (see `jaxes.specs`).
    """

    init: Any
    update: Callable[[Any, Moment], Any]
    value: Callable[[Any, Moment], Array]
    check: Callable[[int], None] = lambda observation_size: None
    spec: Mapping[str, Any] | None = None


@recorded()
def sum_of_rewards(
    discount: float = 1.0, value: Callable[[Array], Array] | None = None
) -> Objective:
    """Σ γ^h r_h over the steps before the end that the model predicts; what follows is zero.

    Args:
      discount: γ in (0, 1].
      value: `(observation [O]) -> []`, what is still to come, added with γ^H where the plan ends
        before the episode does.

    Raises:
      ValueError: a value outside its range.
    """
    check_fraction("discount", discount)
    check("value", value, value is None or callable(value), "a function of an observation, or None")

    def update(total: Array, moment: Moment) -> Array:
        factor = 1.0 if discount == 1 else discount ** (moment.ahead - 1).astype(jnp.float32)
        return total + jnp.where(moment.over | moment.beyond, 0.0, factor * moment.reward)

    def result(total: Array, last: Moment) -> Array:
        if value is None:
            return total
        end = last.over | last.beyond | last.done
        ahead = last.ahead.astype(jnp.float32)
        return total + jnp.where(end, 0.0, discount**ahead * value(last.observation))

    def fits(observation_size: int) -> None:
        if value is not None:
            check_function("value", value, jax.ShapeDtypeStruct((observation_size,), jnp.float32))

    return Objective(np.float32(0), update, result, fits)


class _Distance(NamedTuple):
    total: Array | np.floating  # of the steps that count
    steps: Array | np.floating


@recorded()
def reach(
    target: tuple[float, ...] | Callable[[Array], Array],
    when: When = "final",
    deadline: int | None = None,
    weights: tuple[float, ...] | None = None,
    features: Callable[[Array], Array] | None = None,
) -> Objective:
    """Minus the distance ‖s - s*‖ = √(Σ_i w_i (s_i - s*_i)²) to a desired state. No reward is read.

    A cost of the final state alone, in a horizon that recedes, is always to be paid later: the plan
    arrives at its end, and never comes there (see docs/planning.md). So say by when (`deadline`),
    or let every step count.

    Where the model predicts that the episode ends, the state stays as it was then.

    Args:
      target: s* `[O]`, or a function from the steps of the episode so far (int32 `[]`) to it, where
        it moves.
      when: the distance at the end of the plan (`final`), its mean over all steps (`every_step`),
        or the least of them (`closest`).
      deadline: the step of the episode, counted from 1, by which this is to be so: until then plans
        end there, however long the horizon is; after it, all steps of a plan count.
      weights: w `[O]`, at least 0; None for ones. Zero leaves a number out.
      features: `(observation [O]) -> [F]`, what is compared with the target instead.

    Raises:
      ValueError: an unknown `when`, a target, deadline or weights outside their range.
    """
    check_name("when", when, get_args(When))
    if deadline is not None:
        check_count("deadline", deadline)
    check("features", features, features is None or callable(features), "a function or None")
    fixed = np.zeros(0) if callable(target) else _vector("target", target)
    w = None if weights is None else _vector("weights", weights)
    if w is not None:
        check("weights", weights, bool(np.all(w >= 0) and np.any(w > 0)), "at least 0, some above")

    def distance(moment: Moment) -> Array:
        state = moment.observation if features is None else features(moment.observation)
        goal = target(moment.step) if callable(target) else fixed
        squares = (state - goal) ** 2
        # Of nothing but zeros the root has no slope; no one differentiates here.
        return jnp.sqrt(jnp.sum(squares if w is None else w * squares))

    def update(folded: _Distance, moment: Moment) -> _Distance:
        d, late, counts = distance(moment), jnp.bool_(False), ~moment.beyond
        if deadline is not None:
            late = moment.step - moment.ahead >= deadline
            counts &= late | (moment.step <= deadline)
        added = _Distance(folded.total + d, folded.steps + 1)
        if when != "every_step":
            least = jnp.where(folded.steps > 0, jnp.minimum(folded.total, d), d)
            one = _Distance(d if when == "final" else least, jnp.ones_like(folded.steps))
            added = jax.tree.map(partial(jnp.where, late), added, one)
        return jax.tree.map(lambda new, old: jnp.where(counts, new, old), added, folded)

    def result(folded: _Distance, last: Moment) -> Array:
        return -folded.total / jnp.maximum(folded.steps, 1)

    def fits(observation_size: int) -> None:
        size, what = observation_size, "the observation"
        if features is not None:
            seen = jax.ShapeDtypeStruct((observation_size,), jnp.float32)
            size, what = check_function("features", features, seen, ndim=1), "the features"
        if callable(target):
            step = jax.ShapeDtypeStruct((), jnp.int32)
            found = check_function("target", target, step, ndim=1)
        else:
            found = math.prod(np.shape(fixed))
        check("target", found, found == size, f"of the {size} numbers of {what}")
        if w is not None:
            check("weights", w.size, w.size == size, f"of the {size} numbers of {what}")

    return Objective(_Distance(*np.zeros(2, np.float32)), update, result, fits)


def _vector(field: str, value: Any) -> np.ndarray:
    try:
        vector = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        vector = np.zeros((0, 0), np.float32)
    held = vector.ndim == 1 and vector.size > 0 and bool(np.all(np.abs(vector) < LARGEST))
    check(field, value, held, f"a vector of finite numbers, less than {LARGEST:g}")
    return vector


def check_objective(objective: Objective, observation_size: int) -> None:
    """Raises a ValueError where it does not fit observations of this size, fails, or returns
    something else than `Objective` says. Nothing is computed."""
    check("objective.check", objective.check, callable(objective.check), "a function")
    objective.check(observation_size)
    number, flag, whole = (jnp.zeros((), dtype) for dtype in (jnp.float32, bool, jnp.int32))
    seen = jnp.zeros(observation_size)
    moment = Moment(seen, number, flag, flag, flag, whole, whole)
    with failing("objective.init fails"):
        init = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, objective.init))
    with failing("objective.update fails"):
        after = jax.eval_shape(objective.update, init, moment)
    same = kinds(after) == kinds(init)
    check("objective.update", show(after), same, f"a function to the like of init, {show(init)}")
    check_function("objective.value", objective.value, init, moment)


def check_function(field: str, fn: Callable, *arguments: Any, ndim: int = 0) -> int:
    """How many numbers a user's function returns.

    Raises:
      ValueError: it fails, or returns something else than a number, or a vector (`ndim` 1).
    """
    with failing(f"{field} fails"):
        found = jax.eval_shape(fn, *arguments)
    number = isinstance(found, jax.ShapeDtypeStruct) and is_real(found.dtype)
    allowed = ("one number []", "a vector")[ndim]
    check(field, show(found), number and found.ndim == ndim, f"a function to {allowed}")
    return found.size


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "sum_of_rewards": sum_of_rewards,
    "reach": reach,
}
