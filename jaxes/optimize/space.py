"""What is searched: flat vectors u [D], in which every coordinate has the same scale."""

import contextlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxes.checks import check
from jaxes.optimize.bounds import Box


class Layout(NamedTuple):
    """How a pytree of numbers is a vector: on the host and in a program alike.

    Attributes:
      structure: of the pytree.
      shapes: of its leaves.
      dtypes: of its leaves.
      dtype: of the vector.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        return sum(map(math.prod, self.shapes))

    def ravel(self, tree: Any) -> np.ndarray:
        """The vector `[D]` of a pytree of this layout, on the host."""
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            leaves = [np.ravel(np.asarray(leaf, self.dtype)) for leaf in jax.tree.leaves(tree)]
        return np.concatenate(leaves)

    def unravel(self, x: Any) -> Any:
        """The pytree of a vector `[..., D]`, of NumPy or traced."""
        ends = np.cumsum(list(map(math.prod, self.shapes))).tolist()
        parts = zip([0, *ends], ends, self.shapes, self.dtypes, strict=False)
        leaves = [
            x[..., start:end].reshape((*x.shape[:-1], *shape)).astype(dtype)
            for start, end, shape, dtype in parts
        ]
        return jax.tree.unflatten(self.structure, leaves)


class Space(NamedTuple):
    """The map from a strategy's vector u to a solution: x = box(scale · u), then the pytree.

    Attributes:
      scale: [D], the given standard deviations.
      box: the bounds; None where there are none.
      layout: of the pytree.
    """

    scale: Any
    box: Box | None
    layout: Layout

    def solution(self, u: Any) -> Any:
        return self.layout.unravel(flat(self.scale, self.box, u))

    def coordinates(self, mean: Any) -> np.ndarray:
        """u `[D]` of a starting point.

        Raises:
          ValueError: it is outside of the bounds, or has another shape than the first one.
        """
        shapes = tuple(map(np.shape, jax.tree.leaves(mean)))
        check("mean", shapes, shapes == self.layout.shapes, f"of the shapes {self.layout.shapes}")
        x = y = self.layout.ravel(mean)
        check("mean", mean, bool(np.isfinite(x).all()), "finite")
        if self.box is not None:
            within = bool(np.all((self.box.low <= x) & (x <= self.box.high)))
            check("mean", mean, within, "within the bounds")
            y = self.box.outside(x)
        with np.errstate(over="ignore"):
            u = y / self.scale
        near = bool(np.all(np.abs(u) < float(np.finfo(u.dtype).max) ** 0.75))
        check("std", self.scale, near, f"not so small beside the mean, {x}")
        return u


def flat(scale: Any, box: Box | None, u: Any) -> Any:
    """x `[..., D]` of u: box(scale · u)."""
    x = scale * u
    return x if box is None else _inside(box, x)


_inside = jax.jit(Box.inside)  # on the host one program, not one an operation


def flatten(mean: Any, std: Any, bounds: tuple[Any, Any] | None) -> Space:
    """Checks the arguments that describe the space, and flattens them."""
    leaves = jax.tree.leaves(mean)
    for leaf in leaves:
        known = np.asarray(leaf).dtype in (np.float32, np.float64)
        check("mean", np.asarray(leaf).dtype, known, "of floats of 32 or 64 bits")
    check("mean", mean, sum(map(np.size, leaves)) > 0, "of at least one number")
    layout = Layout(
        structure=jax.tree.structure(mean),
        shapes=tuple(map(np.shape, leaves)),
        dtypes=tuple(jnp.result_type(leaf) for leaf in leaves),
        dtype=jnp.result_type(*leaves),
    )
    check("mean", mean, bool(np.isfinite(layout.ravel(mean)).all()), "finite")
    scale = _like("std", std, mean, layout)
    positive = bool(np.all((scale > 0) & np.isfinite(scale)))
    check("std", std, positive, f"positive and finite in {scale.dtype}")
    low, high = (_like("bounds", bound, mean, layout) for bound in _pair(bounds, layout.size))
    check("bounds", bounds, bool(np.all(low < high)), "low < high in every coordinate")
    free = bool(np.all(np.isinf(low) & np.isinf(high)))
    return Space(scale, None if free else Box(low, high), layout)


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
    # A list beside an array: a pair of SciPy's, or a bound of all coordinates?
    lists = any(isinstance(bound, tuple | list) for bound in bounds)
    arrays = any(getattr(bound, "ndim", 0) > 0 for bound in bounds)
    check("bounds", bounds, not (lists and arrays), allowed)
    return tuple(bounds)


def _is_pair(bound: Any) -> bool:
    two = isinstance(bound, tuple | list) and len(bound) == 2
    return two and all(end is None or _is_scalar(end) for end in bound)


def _is_scalar(value: Any) -> bool:
    """A number, or an array of no dimension."""
    return isinstance(value, int | float | np.number) or getattr(value, "shape", None) == ()


def _like(field: str, value: Any, mean: Any, layout: Layout) -> np.ndarray:
    """A number, or a pytree like `mean`, as a vector `[D]` in the dtype of the mean."""
    shape = jax.tree.map(np.shape, mean)
    allowed = f"a number, or a pytree of numbers of the mean's shape, {shape}"
    if jax.tree_util.all_leaves([mean]) and not isinstance(value, dict):
        value = np.asarray(value)  # an array's std may be a list
    leaves = jax.tree.leaves(value)
    numbers = all(np.asarray(leaf).dtype.kind in "fiu" for leaf in leaves)
    check(field, value, bool(leaves) and numbers, allowed)
    with np.errstate(over="ignore"):
        if jax.tree_util.all_leaves([value]) and np.ndim(value) == 0:
            return np.full(layout.size, value, layout.dtype)
        check(field, value, jax.tree.map(np.shape, value) == shape, allowed)
        return layout.ravel(value)


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

    def as_float(leaf: Any) -> Any:
        whole = np.asarray(leaf).dtype.kind in "iu"
        return np.asarray(leaf, np.float32) if whole else leaf

    def of_part(part: Any) -> Any:
        if not isinstance(part, list | tuple):
            return as_float(part)
        double = any(isinstance(number, np.float64) for number in jax.tree.leaves(part))
        # Rows of different lengths; and what is too large becomes infinite, and is refused.
        with contextlib.suppress(ValueError), np.errstate(over="ignore"):
            return np.asarray(part, np.float64 if double else jnp.result_type(float))
        return jax.tree.map(as_float, part)

    return jax.tree.map(of_part, mean, is_leaf=_is_nested)


def _is_nested(mean: Any) -> bool:
    """Whether it is numbers in lists and tuples alone."""
    if isinstance(mean, list | tuple) and not hasattr(mean, "_fields"):
        return len(mean) > 0 and all(_is_nested(part) or _is_scalar(part) for part in mean)
    return False
