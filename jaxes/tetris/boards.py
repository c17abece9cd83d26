"""Boards as bits: a column is one uint32, and boards stand side by side, `[W, L]`.

Bit 0 is the floor, which is full, and bit r + 1 is row r, counted from the bottom. So a column's
height is the place of its highest bit, and an operation on a column is one on all of its rows.
"""

import dataclasses
import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check
from jaxes.tetris.pieces import CELLS

WALL = np.uint32(0xFFFFFFFF)  # a column that is full, floor included
MAX_HEIGHT = 31 - 1 - CELLS  # rows: the floor, and a piece on top of the board, need bits as well
MAX_WIDTH = 30  # columns: placements of an orientation are bits of one word
MIN_SIZE = CELLS  # rows and columns: the I fits, flat or upright


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Board:
    """One board, as a user's own feature sees it.

    Attributes:
      columns: uint32 [W], the bits of each column.
      height: rows, those above it apart.
    """

    columns: Array
    height: int = dataclasses.field(metadata={"static": True})

    @property
    def cells(self) -> Array:
        """bool [H, W], which cells are full, from the lowest row up."""
        rows = jnp.arange(1, self.height + 1, dtype=jnp.uint32)
        return (self.columns >> rows[:, None] & 1) > 0

    @property
    def heights(self) -> Array:
        """int32 [W], the row of each column's highest full cell, counted from 1; 0 if empty."""
        return heights(self.columns)


def check_size(height: int, width: int, *fields: str) -> None:
    """Raises a ValueError for a board on which a piece or its bits have no room."""
    bounds = ((height, MAX_HEIGHT), (width, MAX_WIDTH))
    for field, (size, most) in zip(fields or ("height", "width"), bounds, strict=True):
        why = f" and at most {most}, so that pieces fit and a column fits a word"
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        held = whole and MIN_SIZE <= size <= most
        check(field, size, held, f"a whole number of at least {MIN_SIZE}{why}")


def board(rows: str | Sequence[str], height: int = 20) -> Board:
    """A board from a drawing.

    Args:
      rows: from the bottom up, `X` for a full cell and `.` for an empty one. One string of lines
        is read as it looks, from the top down; one with `/` between rows from the bottom up.
      height: rows of the board; those that are not drawn are empty.

    Raises:
      ValueError: rows of different lengths, other marks, or more of them than the board has.

    Example:
      >>> jaxes.tetris.board(["XXX.", "X..."], height=10)
    """
    if isinstance(rows, str):
        rows = rows.split("/") if "/" in rows else rows.split()[::-1]
    check("rows", rows, isinstance(rows, Sequence), "strings of X and .")
    lines = list(rows)
    drawn = bool(lines) and all(isinstance(line, str) and set(line) <= set("X.") for line in lines)
    check("rows", rows, drawn, "strings of X and .")
    check("rows", rows, len({len(line) for line in lines}) == 1, "rows of one length")
    check_size(height, len(lines[0]))
    check("number of rows", len(lines), len(lines) <= height, f"at most the height, {height}")
    cells = np.array([[mark == "X" for mark in line] for line in lines]).T
    bits = cells @ (2 << np.arange(len(lines), dtype=np.uint32))
    return Board(jnp.asarray(bits + 1, jnp.uint32), height)


def draw(board: Board) -> str:
    """The drawing of a board, lines from the top down; what lies above its height too."""
    bits = np.asarray(board.columns)
    rows = max(board.height, int(bits.max()).bit_length() - 1)
    lines = ["".join("X" if bits_of >> r + 1 & 1 else "." for bits_of in bits) for r in range(rows)]
    return "\n".join(lines[::-1])


def empty(width: int, count: int) -> Array:
    """Boards without a cell: uint32 [W, L]."""
    return jnp.ones((width, count), jnp.uint32)


def heights(columns: Array) -> Array:
    """int32, the row of the highest full cell, counted from 1; 0 of an empty column."""
    # By the exponent of a float. Without the second bit, none is rounded up to the next power.
    highest = (columns & ~(columns >> 1)).astype(jnp.int32).astype(jnp.float32)
    return (jax.lax.bitcast_convert_type(highest, jnp.int32) >> 23) - 127


def rows_mask(height: int) -> np.uint32:
    """The bits of a board's rows."""
    return np.uint32((2 << height) - 2)


def full_rows(columns: Sequence[Array], height: int) -> Array:
    """The rows that are full in all columns, as bits."""
    return functools.reduce(operator.and_, columns) & rows_mask(height)


def remove(columns: Array, rows: Array) -> Array:
    """Columns without these rows, bits, at most four; what is above them falls."""
    for _ in range(CELLS):
        lowest = rows & (~rows + 1)
        below = lowest - 1  # all bits where there is no row left: nothing falls
        columns = (columns & below) | ((columns >> 1) & ~below)
        rows = (rows ^ lowest) >> 1
    return columns
