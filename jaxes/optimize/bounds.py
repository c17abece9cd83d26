"""Box constraints as a smooth change of variables, so that any strategy can search inside a box."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
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

    low: Any  # [D], of NumPy or traced
    high: Any

    def inside(self, y: Array) -> Array:
        """x = T(y), for any real `y [D]`."""
        a_low, a_high = self._margins(jnp)
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

    def outside(self, x: np.ndarray) -> np.ndarray:
        """The y nearest to the box with T(y) = x, for `x [D]` within the bounds. On the host."""
        a_low, a_high = self._margins(np)
        with np.errstate(invalid="ignore"):  # ∞ - ∞, where there is no bound, is not chosen
            below = self.low - a_low + 2 * np.sqrt(a_low * np.maximum(x - self.low, 0))
            above = self.high + a_high - 2 * np.sqrt(a_high * np.maximum(self.high - x, 0))
        y = np.where(x < self.low + a_low, below, x)
        return np.where(x > self.high - a_high, above, y)

    def _margins(self, lib: Any) -> tuple[Any, Any]:
        """a at either bound: at most half the width; and 1 where the bound is infinite."""
        half = (self.high - self.low) / 2

        def margin(bound: Any) -> Any:
            a = lib.minimum((1 + lib.abs(bound)) / 20, half)
            return lib.where(lib.isfinite(bound), a, 1).astype(half.dtype)

        return margin(self.low), margin(self.high)
