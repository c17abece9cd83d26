"""A deceptive trap: the way forward ends in a U of walls, and the way around it leads back first.

The shape of the humanoid's maze of Conti et al. (2018), "Improving exploration in evolution
strategies for deep reinforcement learning via a population of novelty-seeking agents", around a
point. No line, corner or rounding slips through: which side of the walls a point is on is where its
coordinates are, and changes through the opening alone.
"""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_count, check_positive
from jaxes.environments.base import Environment, WithSystem
from jaxes.environments.sketch import ACCENT, FAINT, INK, Sketch, sketched
from jaxes.specs import recorded

MOVE = 0.3  # the longest along an axis in a step, m
DT = 0.1  # a step, s
SEEN = 10.0, 3.0  # an observation is the position divided by these
BEYOND = 0.5  # who is so far past the front wall has escaped, m
# Products of two differences are known to 3·2⁻²⁴ of themselves in float32; five times so much
# decides which is less.
LESS, MORE = 1 - 2**-20, 1 + 2**-20

Range = float | tuple[float, float]


class System(NamedTuple):
    """Where the walls are: numbers, or ranges (low, high) that each episode draws from, m."""

    width: Any = 2.0  # half of it: the sides are at y = ±width
    opening: Any = 2.0  # x at which the sides begin
    end: Any = 5.5  # x of the front wall, where they end


class State(NamedTuple):
    x: Array  # m
    y: Array  # m
    drawn: System  # of the ranges what this episode has; None where the system has numbers
    steps: Array  # done so far, int32


@recorded()
def trap(
    width: Range = 2.0, opening: Range = 2.0, end: Range = 5.5, num_steps: int = 100
) -> Environment:
    """A point runs forward, past a trap of walls that it does not see.

    It starts at (0, 0). A step of 0.1 s moves it by 0.3·a, for the action a [2] clipped to [-1, 1].
    Walls stand at y = ±width from x = opening to x = end, and at x = end between them. A move whose
    line touches one is not made: a point inside slides along (the target is clipped), one outside
    makes the move along y alone, else along x alone, else none.

    The observation [2] is (x/10, y/3): the walls are not seen. The reward is x' - x, so that the
    return is the x [m] that is reached in `num_steps` steps; 30 at most by default, of which the
    policy that runs straight gets `end`. `measure` tells that `x`, and whether it has `escaped`, to
    x > end + 0.5. A trap must be deeper than a step, 0.3, or who runs straight stops before it.

    Args:
      width: half the distance between the side walls, m, positive. This and the next two may be a
        range (low, high), from which each episode draws uniformly.
      opening: x at which the trap begins, m, positive.
      end: x of the front wall, m, greater than `opening`.
      num_steps: after which the episode ends, at least 1.

    Raises:
      ValueError: a number that is not positive, low > high, a trap that may end where it begins.

    Example:
      >>> environment = jaxes.environments.trap(width=(0.05, 2.0))
    """
    system = System(*map(_checked, System._fields, (width, opening, end)))
    longer = np.min(system.end) > np.max(system.opening)
    check("end", end, bool(longer), f"greater than opening, {opening}")
    check_count("num_steps", num_steps)
    return _environment_of(num_steps, system)


def _checked(field: str, value: Any) -> Range:
    if not isinstance(value, tuple | list):
        check_positive(field, value)
        return float(value)
    check(field, value, len(value) == 2, "a number or a range (low, high)")
    for bound in value:
        check_positive(field, bound)
    low, high = map(float, value)
    check(field, value, low <= high, "a range (low, high) with low <= high")
    return low, high


def _environment_of(num_steps: int, system: System) -> Environment:
    """The trap of these numbers, which may be traced; unchecked."""
    return Environment(
        partial(_reset, system),
        partial(_step, system, num_steps),
        action_size=2,
        name="trap",
        measure=partial(_measure, system),
        reward_fn=_seen_reward,
        done_fn=_never,
        dt=DT,
        render=partial(_render, system),
        system=system,
        with_system=WithSystem(num_steps, partial(_environment_of, num_steps)),
    )


def _reset(system: System, key: Array) -> tuple[State, Array]:
    drawn = System(*map(_draw, jax.random.split(key, len(system)), system))
    state = State(jnp.zeros(()), jnp.zeros(()), drawn, jnp.zeros((), jnp.int32))
    return state, _observe(state)


def _draw(key: Array, number: Any) -> Array | None:
    if not isinstance(number, tuple):
        return None
    low, high = number
    return jax.random.uniform(key, minval=low, maxval=high)


def _of_episode(system: System, drawn: System) -> System:
    return System(*(b if a is None else a for a, b in zip(drawn, system, strict=True)))


def _step(
    system: System, num_steps: int, state: State, action: Array
) -> tuple[State, Array, Array, Array]:
    walls = _of_episode(system, state.drawn)
    # Clipped after the product, which then cannot be fused into the sum: where a point goes is one
    # number, wherever a compiler computes it again.
    dx, dy = jnp.clip(MOVE * action, -MOVE, MOVE)
    x, y = _moved(walls, state.x, state.y, state.x + dx, state.y + dy)
    after = State(x, y, state.drawn, state.steps + 1)
    return after, _observe(after), x - state.x, after.steps >= num_steps


def _moved(walls: System, x: Array, y: Array, to_x: Array, to_y: Array) -> tuple[Array, Array]:
    """Where the point comes that is at (x, y) and heads for (to_x, to_y)."""
    width, opening, end = walls
    inside = (opening <= x) & (x <= end) & (jnp.abs(y) <= width)  # who is at a wall is inside
    free = partial(_is_free, walls, inside, x, y)
    lost = jnp.isnan(to_x + to_y)  # what is not a number stays so, for all to see
    moves = [free(to_x, to_y) | lost, inside, free(x, to_y), free(to_x, y)]
    after_x = jnp.select(moves, [to_x, jnp.minimum(to_x, end), x, to_x], x)
    after_y = jnp.select(moves, [to_y, jnp.clip(to_y, -width, width), to_y, y], y)
    return after_x, after_y


def _is_free(walls: System, inside: Array, x: Array, y: Array, to_x: Array, to_y: Array) -> Array:
    """Whether the line from (x, y) misses the walls' rectangle, or passes the opening alone.

    A line and a rectangle are apart if they are so along x, along y or across the line (the
    separating axes of convex shapes). A corner (X, Y) is on the side of the line that the sign of
    dx (Y - y) - dy (X - x) tells.
    """
    width, opening, end = walls
    dx, dy = to_x - x, to_y - y
    upper, lower = dx * (width - y), dx * (-width - y)
    near, far = dy * (opening - x), dy * (end - x)
    low, high = jnp.minimum(lower, upper), jnp.maximum(lower, upper)
    apart = (jnp.maximum(x, to_x) < opening) | (jnp.minimum(x, to_x) > end)
    apart |= (jnp.maximum(y, to_y) < -width) | (jnp.minimum(y, to_y) > width)
    apart |= _less(high, jnp.minimum(near, far)) | _less(jnp.maximum(near, far), low)
    enters = (opening <= to_x) & (to_x < end) & (jnp.abs(to_y) < width)
    passes = ((x < opening) != (to_x < opening)) & _less(low, near) & _less(near, high)
    return apart | (passes & (inside | enters))


def _less(a: Array, b: Array) -> Array:
    """Whether a < b, however they were rounded."""
    return jnp.maximum(LESS * a, MORE * a) < jnp.minimum(LESS * b, MORE * b)


def _observe(state: State) -> Array:
    return jnp.stack([state.x / SEEN[0], state.y / SEEN[1]])


def _measure(system: System, state: State) -> dict[str, Array]:
    end = _of_episode(system, state.drawn).end
    return {"x": state.x, "escaped": jnp.where(state.x > end + BEYOND, 1.0, 0.0)}


def _seen_reward(observation: Array, action: Array, next_observation: Array) -> Array:
    del action
    return SEEN[0] * (next_observation[0] - observation[0])


def _never(next_observation: Array) -> Array:
    del next_observation
    return jnp.zeros((), bool)


def _render(system: System, states: Any, width: int, height: int) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, pictures of the states `[T]` of an episode, all of its way in sight."""
    walls = _of_episode(system, jax.tree.map(lambda leaf: leaf[0], states.drawn))
    left, right = min(0, np.min(states.x)) - 1, max(walls.end, np.max(states.x)) + 1
    up = max(walls.width, np.max(np.abs(states.y))) + 1
    seen = {"center": ((left + right) / 2, 0.0), "reach": ((right - left) / 2, up)}
    return sketched(partial(_sketch, walls), states, width, height, **seen)


def _sketch(walls: System, sketch: Sketch, state: Any) -> None:
    width, opening, end = map(float, walls)
    corners = [(opening, width), (end, width), (end, -width), (opening, -width)]
    for corner, following in itertools.pairwise(corners):
        sketch.rod(corner, following, 0.1, INK)
    sketch.disc((0.0, 0.0), 0.15, FAINT)
    sketch.disc((float(state.x), float(state.y)), 0.2, ACCENT)
