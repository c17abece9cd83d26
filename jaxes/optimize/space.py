"""What is searched: flat vectors u [D], in which every coordinate has the same scale."""

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes.checks import check
from jaxes.optimize.bounds import Box


class Space(NamedTuple):
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
        check("mean", mean, bool(jnp.all(jnp.isfinite(x))), "finite")
        within = bool(jnp.all((self.box.low <= x) & (x <= self.box.high)))
        check("mean", mean, within, "within the bounds")
        u = self.box.outside(x) / self.scale
        near = bool(jnp.all(jnp.abs(u) < float(jnp.finfo(u.dtype).max) ** 0.75))
        check("std", self.scale, near, f"not so small beside the mean, {x}")
        return u


def flatten(mean: Any, std: Any, bounds: tuple[Any, Any] | None) -> Space:
    """Checks the arguments that describe the space, and flattens them."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mean)]
    for leaf in leaves:
        known = leaf.dtype in (np.float32, np.float64)
        check("mean", leaf.dtype, known, "of floats of 32 or 64 bits")
    check("mean", mean, sum(leaf.size for leaf in leaves) > 0, "of at least one number")
    x, unravel = ravel_pytree(mean)
    check("mean", mean, bool(jnp.all(jnp.isfinite(x))), "finite")
    scale = _like("std", std, mean)
    positive = bool(jnp.all((scale > 0) & jnp.isfinite(scale)))
    check("std", std, positive, f"positive and finite in {scale.dtype}")
    low, high = (_like("bounds", bound, mean) for bound in _pair(bounds, x.size))
    check("bounds", bounds, bool(jnp.all(low < high)), "low < high in every coordinate")
    return Space(scale, Box(low, high), unravel)


def _pair(bounds: Any, dim: int) -> tuple[Any, Any]:
    """(low, high) from a pair of numbers, arrays or pytrees, or from D pairs, as SciPy has them."""
    if bounds is None:
        return -math.inf, math.inf
    if isinstance(bounds, tuple | list) and len(bounds) == dim and all(map(_is_pair, bounds)):
        lows, highs = zip(*bounds, strict=True)
        low = np.array([-math.inf if bound is None else bound for bound in lows])
        return low, np.array([math.inf if bound is None else bound for bound in highs])
    allowed = "a pair (low, high) of numbers or arrays, or (low, high) of each coordinate"
    pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    check("bounds", bounds, pair and all(bound is not None for bound in bounds), allowed)
    return tuple(bounds)


def _is_pair(bound: Any) -> bool:
    two = isinstance(bound, tuple | list) and len(bound) == 2
    return two and all(end is None or isinstance(end, int | float | np.number) for end in bound)


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


def precision_of(mean: Any) -> contextlib.AbstractContextManager:
    """float64 where an array of the mean has it: a NumPy array says so, a Python float does not."""
    double = any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(mean))
    return jax.enable_x64(True) if double else contextlib.nullcontext()


def as_array(mean: Any) -> Any:
    """Lists or tuples of plain numbers, nested or not, as an array where it is a regular one, and
    integers as floats; other pytrees as they are, NamedTuples of numbers among them."""
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(mean))
    allowed = "known: a search cannot be a part of a jitted function, an update step can"
    check("mean", mean, not traced, allowed)
    if isinstance(mean, list | tuple) and _is_nested(mean):
        double = any(isinstance(number, np.float64) for number in jax.tree.leaves(mean))
        with contextlib.suppress(ValueError):  # rows of different lengths
            return np.asarray(mean, np.float64 if double else jnp.result_type(float))

    def as_float(leaf: Any) -> Any:
        whole = np.asarray(leaf).dtype.kind in "iu"
        return np.asarray(leaf, np.float32) if whole else leaf

    return jax.tree.map(as_float, mean)


def _is_nested(mean: Any) -> bool:
    """Whether it is numbers in lists and tuples alone."""
    if isinstance(mean, list | tuple) and not hasattr(mean, "_fields"):
        return len(mean) > 0 and all(map(_is_nested, mean))
    return isinstance(mean, float | int | np.number)
