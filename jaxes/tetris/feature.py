"""What a controller sees of a board: features by name, and the sets that were published.

Most features are sums over columns, over edges between neighbors (the walls are neighbors too, and
full), or over columns with both neighbors. Each of those is one function of bits, of arrays of any
shape: it judges whole boards here, and in `jaxes.tetris.placements` the few columns that a piece
touches.

References: Bertsekas & Ioffe, Temporal differences-based policy iteration (1996); Fahey, Tetris AI
(2003), for Dellacherie's; Thiery & Scherrer, Building controllers for Tetris (2009).
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.tetris import boards
from jaxes.tetris.boards import WALL


class Placement(NamedTuple):
    """What a feature may know of the piece that was placed.

    Attributes:
      landing_height: float32, rows below the piece's middle: its lowest row + (its height - 1) / 2.
      lines: int32, rows that it completed.
      eroded_cells: int32, `lines` times the piece's cells in them.
    """

    landing_height: Array
    lines: Array
    eroded_cells: Array


def count(bits: Array) -> Array:
    """How many bits are set, int32."""
    return jax.lax.population_count(bits).astype(jnp.int32)


def _wells(left: Array, x: Array, right: Array, rows: int) -> Array:
    """Σ over empty cells between two full ones: 1 + the empty cells straight below."""
    return _depths(~x & left & right & boards.rows_mask(rows), x, rows)


def _fast_wells(left: Array, x: Array, right: Array, rows: int) -> Array:
    """The same, but that every empty cell straight below a well cell is one as well."""
    well, empty = ~x & left & right & boards.rows_mask(rows), ~x
    for shift in (1, 2, 4, 8, 16):  # down the empty cells, twice as far each time
        well = well | (well >> shift & empty)
        empty = empty & (empty >> shift)
    return _depths(well, x, rows)


def _depths(cells: Array, x: Array, rows: int) -> Array:
    """Σ over these empty cells of the empty cells at and straight below them.

    deep[d] are the cells with d of those or more. Bit i of their number is the parity of how many
    of deep[2^i], deep[2 · 2^i], ... a cell is in.
    """
    empty, deep = ~x, [cells, cells]
    for _ in range(rows - 1):
        empty = empty << 1
        deep.append(deep[-1] & empty)
    found = jnp.zeros(x.shape, jnp.int32)
    for bit in range(rows.bit_length()):
        found = found + (count(functools.reduce(operator.xor, deep[1 << bit :: 1 << bit])) << bit)
    return found


# Sums over columns x.
COLUMN: dict[str, Callable[[Array], Array]] = {
    # Changes from cell to cell up the column; the floor is full and the ceiling empty.
    "column_transitions": lambda x: count(x ^ (x >> 1)),
    # Full cells in the runs that stand right above a hole: all but those on the floor's own run.
    "hole_depth": lambda x: count(x) - count(x & ~(x + 1)),
}
# Sums over edges between two columns, of boards with so many rows.
EDGE: dict[str, Callable[[Array, Array, int], Array]] = {
    "row_transitions": lambda left, right, rows: count((left ^ right) & boards.rows_mask(rows)),
}
# Sums over columns between two neighbors, likewise.
BETWEEN: dict[str, Callable[[Array, Array, Array, int], Array]] = {
    "wells": _wells,
    "fast_wells": _fast_wells,
}
PLACEMENT = ("landing_height", "eroded_cells")
EACH = ("heights", "differences")  # one a column, one a pair of neighbors
WHOLE = ("max_height", "holes", "rows_with_holes", "diversity", "constant")
FEATURES = (*EACH, *WHOLE, *PLACEMENT, *COLUMN, *EDGE, *BETWEEN)

_DELLACHERIE = (
    "landing_height",
    "eroded_cells",
    "row_transitions",
    "column_transitions",
    "holes",
    "wells",
)
_DU = (*_DELLACHERIE, "hole_depth", "rows_with_holes")
_DT = (*_DU, "diversity")
SETS: dict[str, tuple[str, ...]] = {
    "bertsekas": ("heights", "differences", "max_height", "holes", "constant"),
    "dellacherie": _DELLACHERIE,
    "du": _DU,
    "dt": _DT,
    "dt_fast_wells": tuple("fast_wells" if name == "wells" else name for name in _DT),
}


def measure(
    names: Iterable[str], columns: Sequence[Array], height: int, placement: Placement
) -> dict[str, Array | list[Array]]:
    """Features of boards with W columns [...], by name: [...], or lists of W heights and W - 1
    differences."""
    heights = [boards.heights(x) for x in columns]
    walled = [jnp.full_like(columns[0], WALL), *columns, jnp.full_like(columns[0], WALL)]
    pairs = list(itertools.pairwise(heights))

    def of(name: str) -> Array | list[Array]:
        if name in COLUMN:
            return total([COLUMN[name](x) for x in columns])
        if name in EDGE:
            return total([EDGE[name](*edge, height) for edge in itertools.pairwise(walled)])
        if name in BETWEEN:
            three = zip(walled[:-2], columns, walled[2:], strict=True)
            return total([BETWEEN[name](*each, height) for each in three])
        match name:
            case "heights":
                return heights
            case "differences":
                return [jnp.abs(left - right) for left, right in pairs]
            case "max_height":
                return functools.reduce(jnp.maximum, heights)
            case "holes":
                return total([count(holes(x)) for x in columns])
            case "rows_with_holes":
                return count(functools.reduce(operator.or_, map(holes, columns)))
            case "diversity":
                return distinct(total([step(*pair) for pair in pairs]))
            case "constant":
                return jnp.ones_like(heights[0])
        return getattr(placement, name)

    return {name: of(name) for name in names}


def holes(x: Array) -> Array:
    """The empty cells of a column that have a full one above them, as bits."""
    below = x
    for shift in (1, 2, 4, 8, 16):
        below = below | (below >> shift)
    return below & ~x


def step(left: Array, right: Array) -> Array:
    """A step from one height to the next, as a counter: six bits for each of -2 to 2, else 0."""
    place = right - left + 2
    counted = (place >= 0) & (place <= 4)
    return jnp.where(counted, 1 << 6 * jnp.where(counted, place, 0), 0)


def distinct(steps: Array) -> Array:
    """How many of the five counters in a sum of steps are not zero."""
    return total([(steps >> 6 * i & 63 > 0).astype(jnp.int32) for i in range(5)])


def total(terms: Sequence[Array]) -> Array:
    """Their sum, added in this order."""
    return functools.reduce(operator.add, terms)
