"""Box constraints as a smooth change of variables, so that any strategy can search inside a box."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Box(NamedTuple):
    """The map from unconstrained `y [D]` to `x [D]` with `low ≤ x ≤ high`; bounds may be infinite.

    Inside, x = y. Within a margin a of a bound, y from `low - a` to `low + a` is bent to x from
    `low` to `low + a` by a parabola with the slopes 0 and 1; beyond `low - a` it is mirrored:

        x = low + (y - (low - a))²/(4a)

    So x is differentiable everywhere and *reaches* its bounds at finite y: an optimum in a corner
    is an optimum like any other (under a sigmoid it would lie at infinity).

    Reference: N. Hansen's boundary transformation in pycma and c-cmaes ("lin-quad").
    """

    low: Array
    high: Array

    def inside(self, y: Array) -> Array:
        """x = T(y), for any real `y [D]`."""
        a_low, a_high = self._margins()
        # y and its mirror images in low - a and high + a give the same x: fold y between the two.
        left, right = self.low - a_low, self.high + a_high
        y = jnp.where(y < left, 2 * left - y, jnp.where(y > right, 2 * right - y, y))
        # Only what lies beyond the whole width is folded again: beside a far bound a remainder
        # would lose the low digits of y.
        again = ((y < left) | (y > right)) & jnp.isfinite(right - left)
        period = jnp.where(again, 2 * (right - left), 1)
        phase = jnp.mod(jnp.where(again, y - left, 0), period)
        y = jnp.where(again, left + jnp.minimum(phase, period - phase), y)

        from_low, from_high = (y - left) ** 2 / (4 * a_low), (right - y) ** 2 / (4 * a_high)
        x = jnp.where(y < self.low + a_low, self.low + from_low, y)
        x = jnp.where(y > self.high - a_high, self.high - from_high, x)
        return jnp.clip(x, self.low, self.high)  # against rounding

    def outside(self, x: Array) -> Array:
        """The y nearest to the box with T(y) = x, for `x [D]` within the bounds."""
        a_low, a_high = self._margins()
        y = jnp.where(
            x < self.low + a_low,
            self.low - a_low + 2 * jnp.sqrt(a_low * jnp.maximum(x - self.low, 0)),
            x,
        )
        return jnp.where(
            x > self.high - a_high,
            self.high + a_high - 2 * jnp.sqrt(a_high * jnp.maximum(self.high - x, 0)),
            y,
        )

    def _margins(self) -> tuple[Array, Array]:
        """a at either bound: at most half the width; and 1 where the bound is infinite."""
        half = (self.high - self.low) / 2

        def margin(bound: Array) -> Array:
            a = jnp.minimum((1 + jnp.abs(bound)) / 20, half)
            return jnp.where(jnp.isfinite(bound), a, 1)

        return margin(self.low), margin(self.high)
