"""All placements of a piece at once: which of them complete rows, and which of the others is best.

A piece touches one to four columns, and most features are sums over columns and edges. So a
placement is judged by what it changes, and by no more. That holds as long as no row is completed;
the few placements that complete some are judged as boards of their own, by the game, one a step
(`jaxes.tetris.game`), and all of them where a feature is a user's own.

L games stand side by side, their boards [W, L]. Numbers are floats, which hold these integers
exactly, and of which a processor handles twice as many at once.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.tetris import boards
from jaxes.tetris.apart import apart
from jaxes.tetris.boards import WALL
from jaxes.tetris.controller import Controller
from jaxes.tetris.feature import (
    BETWEEN,
    COLUMN,
    EDGE,
    count,
    distinct,
    holes,
    step,
    total,
)
from jaxes.tetris.pieces import SLOTS, Slot

NONE = 255  # in the place of a placement's index, where there is none
# The score of a placement that ends the game, below all others: it is taken only where all do.
LOSING = np.float32(-3e38)
LEFT, RIGHT = 2, 6  # walls beside the board, as far as a placement's neighbors reach
# Of controllers that see no more than these, all placements are one straight computation; of
# others, which would make it too long a one, they are a loop.
SHORT = {"heights", "differences", "max_height", "holes", "constant"}


class Choices(NamedTuple):
    """Of the placements of each game's piece, by their indices over all slots, int32 [L].

    Attributes:
      best: the best of those that need not be judged apart, the first where several are as good;
        `NONE` where there is none, or no score is a number.
      apart: the first beyond those seen of those that must be, or `NONE`.
      others: bool, whether more of those come after it.
    """

    best: Array
    apart: Array
    others: Array


def choices(
    controller: Controller,
    weights: Array,
    columns: Array,
    piece: Array,
    seen: Array,
    running: Array,
) -> Choices:
    """What each of L games can do with its piece.

    Args:
      controller: what is judged.
      weights: float32 [F, L].
      columns: uint32 [W, L].
      piece: int32 [L].
      seen: int32 [L], the index up to which placements have been judged apart; -1 for none.
      running: see `apart`.
    """

    def packed() -> Array:
        """In one word, since XLA would compute all of it for each of several results."""
        best, words = _judged(controller, weights, columns, piece, running)
        first, others = _first_beyond(controller.width, words, seen)
        return best | first << 8 | others.astype(jnp.int32) << 16

    found = apart(running, packed)
    return Choices(found & 255, found >> 8 & 255, found >> 16 > 0)


def _judged(
    controller: Controller, weights: Array, columns: Array, piece: Array, running: Array
) -> tuple[Array, list[Array]]:
    """The index of the best placement that need not be judged apart, and slot by slot those that
    must be, as bits of a word: [L]."""
    short = not callable(controller.features) and {*controller.names} <= SHORT
    before = _Before.of(controller, weights, columns)
    if not short:
        before = apart(running, before.stacked)
    best, number = jnp.full(piece.shape, -jnp.inf), jnp.full_like(piece, NONE)
    index, words = number, []
    for slot, begin, _ in slots(controller.width):
        shape = Shape.of(slot, controller.width, piece)
        judge = functools.partial(_best_of, controller, slot, before, shape, short)
        score, column, word = judge() if short else apart(running, judge)
        n = shape.number + column  # equal scores: the piece's first orientation, then column
        better = (score > best) | ((score == best) & (n < number))
        better = better & (shape.columns > 0)
        best, number = jnp.where(better, score, best), jnp.where(better, n, number)
        index = jnp.where(better, begin + column, index)
        words.append(jnp.where(shape.columns > 0, word, 0))
    return index, words


def _first_beyond(width: int, words: list[Array], seen: Array) -> tuple[Array, Array]:
    """Of the placements that these bits stand for, slot by slot, the index of the first beyond the
    one seen, or `NONE`, and whether more come after it: [L]."""
    first, others = jnp.full_like(seen, NONE), jnp.zeros(seen.shape, bool)
    for (_, begin, end), word in zip(slots(width), words, strict=True):
        # All bits where the one seen lies in an earlier slot, none where in a later.
        unseen = jnp.clip(seen + 1 - begin, 0, 31).astype(jnp.uint32)
        left = jnp.where(seen + 1 < end, word >> unseen << unseen, 0)
        lowest = left & (~left + 1)
        others = others | jnp.where(first == NONE, left != lowest, left > 0)
        here = (first == NONE) & (left > 0)
        first = jnp.where(here, begin + boards.heights(lowest), first)
    return first, others


def slots(width: int) -> list[tuple[Slot, int, int]]:
    """Each slot with the index of its first placement, and of the first that is no longer its."""
    ends = np.cumsum([width - slot.narrow + 1 for slot in SLOTS]).tolist()
    return list(zip(SLOTS, [0, *ends[:-1]], ends, strict=True))


def lookup(table: Sequence | np.ndarray, piece: Array) -> Array:
    """`table [7]` at the pieces [L], by comparisons: gathers do not vectorize."""
    table = np.asarray(table)
    values, counts = np.unique(table, return_counts=True)
    usual = values[counts.argmax()]
    found = jnp.full(piece.shape, usual)
    for i in np.flatnonzero(table != usual):
        found = jnp.where(piece == i, table[i], found)
    return found


def larger(a: Array, b: Array) -> Array:
    """The larger of two numbers, none of them NaN: one instruction, where `maximum` takes three."""
    return jnp.where(a > b, a, b)


class Shape(NamedTuple):
    """The orientation of each game's piece in a slot; of a piece that has none, of another's.

    Attributes:
      cells: float32 [L] of each of the slot's columns, see `Orientation`; so are
      bottom: float32 [L],
      top: float32 [L] of each.
      steps: float32 [L] from each of the columns that all pieces have to the next, |top - top|.
      height: float32 [L].
      columns: int32 [L], in how many columns it can lie; 0 where the piece has none in this slot.
      number: int32 [L], which of the piece's orientations it is, times W.
    """

    cells: list[Array]
    bottom: list[Array]
    top: list[Array]
    steps: list[Array]
    height: Array
    columns: Array
    number: Array

    @classmethod
    def of(cls, slot: Slot, width: int, piece: Array) -> "Shape":
        shapes, there = slot.orientations(), slot.number >= 0
        room = [width - shape.width + 1 for shape in shapes]

        def numbers(of: Callable[..., int]) -> Array:
            return lookup(np.array([of(shape) for shape in shapes], np.float32), piece)

        return cls(
            cells=[numbers(lambda shape, j=j: shape.cells[j]) for j in range(slot.most)],
            bottom=[numbers(lambda shape, j=j: shape.bottom[j]) for j in range(slot.most)],
            top=[numbers(lambda shape, j=j: shape.top[j]) for j in range(slot.most)],
            steps=[
                numbers(lambda shape, j=j: abs(shape.top[j + 1] - shape.top[j]))
                for j in range(slot.narrow - 1)
            ],
            height=numbers(lambda shape: shape.height),
            columns=lookup(np.where(there, room, 0).astype(np.int32), piece),
            number=lookup((slot.number * width).astype(np.int32), piece),
        )


class _Before(NamedTuple):
    """The boards before the piece; lists hold [L] by column, with walls beside the board.

    Attributes:
      columns: uint32.
      heights: float32; 0 of walls.
      left: uint32, the rows that are full in all columns on the left of a column.
      right: uint32, those that are full in it and in all on its right.
      top: float32 [L], the greatest height.
      hidden: uint32 [L], the rows with holes.
      steps: int32, of the edge on a column's left, see `feature.step`; 0 beside walls.
      edges: float32, Σ of weight · difference over edges, up to the one on a column's left.
      weights: float32 [L] by feature; lists of heights, with that of holes, and of differences.
    """

    columns: Any
    heights: Any
    left: Any
    right: Any
    top: Array
    hidden: Array
    steps: Any
    edges: Any
    weights: dict[str, Any]

    @classmethod
    def of(cls, controller: Controller, weights: Array, columns: Array) -> "_Before":
        wall, zero = jnp.full_like(columns[0], WALL), jnp.zeros(columns.shape[1:], jnp.float32)

        def walled(rows: Sequence[Array], fill: Array, left: int = LEFT) -> list[Array]:
            right = LEFT + controller.width + RIGHT - left - len(rows)
            return [fill] * left + list(rows) + [fill] * right

        whole = [boards.heights(x) for x in columns]
        h = walled([height.astype(jnp.float32) for height in whole], zero)
        by_name = {} if callable(controller.features) else controller.split(weights)
        hole = by_name.get("holes", zero)  # as long as no row is completed, holes are Σ h - cells
        of_heights = by_name.get("heights", [zero] * controller.width)
        by_name["heights"] = walled([w + hole for w in of_heights], zero)
        by_name["differences"] = walled(by_name.get("differences", []), zero, LEFT + 1)
        pairs = zip(by_name["differences"][1:], h[:-1], h[1:], strict=True)
        steps = [step(*pair) for pair in itertools.pairwise(whole)]
        return cls(
            columns=walled(list(columns), wall),
            heights=h,
            left=_running(operator.and_, list(columns), wall),
            right=_running(operator.and_, [*columns, *[wall] * RIGHT][::-1], wall)[::-1],
            top=functools.reduce(larger, h),
            hidden=functools.reduce(operator.or_, map(holes, columns)),
            steps=walled(steps, jnp.zeros_like(whole[0]), LEFT + 1),
            edges=_running(operator.add, [w * jnp.abs(b - a) for w, a, b in pairs], zero),
            weights=by_name,
        )

    def stacked(self) -> "_Before":
        """With arrays [_, L] in the place of lists, which a loop can take rows of."""
        is_list = lambda leaf: isinstance(leaf, list)  # noqa: E731
        return jax.tree.map(
            lambda leaf: jnp.stack(leaf) if is_list(leaf) else leaf, self, is_leaf=is_list
        )


def _running(fn: Callable, rows: Sequence[Array], start: Array) -> list[Array]:
    return list(itertools.accumulate(rows, fn, initial=start))


def _best_of(
    controller: Controller, slot: Slot, before: _Before, shape: Shape, short: bool
) -> tuple[Array, Array, Array]:
    """Of a slot's placements, [L]: the greatest score, the first column that has it, and those that
    must be judged apart, as bits of a word."""
    own = callable(controller.features)
    limit = controller.height - shape.height

    def consider(column: Any, so_far: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        best, chosen, word = so_far
        lands, full, score = _placed(controller, slot, before, shape, column)
        score = jnp.where(lands > limit, LOSING, score)
        apart = full.astype(jnp.int32).astype(jnp.float32) > 0  # rows that it completes
        if own:
            apart = jnp.ones_like(apart)
        if not short or column > controller.width - slot.most:
            there = column < shape.columns
            apart, score = apart & there, jnp.where(there, score, -jnp.inf)
        better = (score > best) & ~apart
        return (
            jnp.where(better, score, best),
            jnp.where(better, column, chosen),
            word | jnp.where(apart, jnp.left_shift(jnp.uint32(1), column), 0),
        )

    count = controller.width - slot.narrow + 1
    so_far = (
        jnp.full(limit.shape, -jnp.inf),
        jnp.full(limit.shape, NONE, jnp.int32),
        jnp.zeros(limit.shape, jnp.uint32),
    )
    if not short:
        return jax.lax.fori_loop(0, count, consider, so_far)
    for column in range(count):
        so_far = consider(column, so_far)
    return so_far


def _placed(
    controller: Controller, slot: Slot, before: _Before, shape: Shape, column: Any
) -> tuple[Array, Array, Array]:
    """Of a placement, [L]: the rows below it, those that it completes, as bits, and its score, but
    for what is the same for all placements."""
    width, rows = slot.most, controller.height
    at = column + LEFT
    h = [before.heights[at + j] for j in range(-1, width + 1)]
    lands = functools.reduce(larger, [h[j + 1] - shape.bottom[j] for j in range(width)])
    # The bit of its lowest row, 2^(lands + 1), by writing the exponent of a float.
    exponent = (lands * 2.0**23 + 128 * 2.0**23).astype(jnp.int32)
    unit = jax.lax.bitcast_convert_type(exponent, jnp.float32)
    x = [before.columns[at + j] for j in range(-2, width + 2)]
    new_x, new_h = [*x], [*h]
    for j in range(width):
        new_x[j + 2] = x[j + 2] | (shape.cells[j] * unit).astype(jnp.int32).astype(jnp.uint32)
        new_h[j + 1] = lands + shape.top[j]
        if j >= slot.narrow:  # a column that not each piece has
            new_h[j + 1] = larger(h[j + 1], new_h[j + 1])
    full = before.left[column] & before.right[column + width]
    full = functools.reduce(operator.and_, new_x[2:-2], full) & boards.rows_mask(rows)

    def change(fn: Callable[..., Array], reads: int, *arguments: int) -> Array:
        """Of a sum of `fn`, which reads so many columns side by side: over those it changes for."""
        begins = {1: range(2, width + 2), 2: range(1, width + 2), 3: range(width + 2)}[reads]
        terms = [
            fn(*new_x[i : i + reads], *arguments) - fn(*x[i : i + reads], *arguments)
            for i in begins
        ]
        return total(terms)

    terms, weights = [], before.weights
    if {"heights", "holes"} & {*controller.names}:
        w = weights["heights"]
        terms += [w[at + j] * (new_h[j + 1] - h[j + 1]) for j in range(width)]
    for name in controller.names:
        w = weights[name]
        if name in COLUMN:
            terms.append(w * change(COLUMN[name], 1))
        elif name in EDGE:
            terms.append(w * change(EDGE[name], 2, rows))
        elif name in BETWEEN:
            terms.append(w * change(BETWEEN[name], 3, rows))
        match name:
            case "differences":
                new = [
                    shape.steps[j - 1] if 0 < j < slot.narrow else jnp.abs(new_h[j + 1] - new_h[j])
                    for j in range(width + 1)
                ]
                old = before.edges[at + width] - before.edges[at - 1]
                terms.append(total([w[at + j] * new[j] for j in range(width + 1)]) - old)
            case "landing_height":
                terms.append(w * (lands + (shape.height - 1) / 2))
            case "max_height":
                terms.append(w * larger(before.top, lands + shape.height))
            case "rows_with_holes":
                hidden = functools.reduce(operator.or_, map(holes, new_x[2:-2]))
                terms.append(w * count(before.hidden | hidden))
            case "diversity":
                terms.append(w * distinct(_new_steps(controller, before, new_h, at, width)))
    return lands, full, total(terms) if terms else jnp.zeros_like(lands)


def _new_steps(
    controller: Controller, before: _Before, new_h: list[Array], at: Any, width: int
) -> Array:
    """The counter of all steps of the heights with the piece."""
    steps = functools.reduce(operator.add, list(before.steps))
    for j in range(width + 1):
        inside = (at + j > LEFT) & (at + j < LEFT + controller.width)
        left, right = (height.astype(jnp.int32) for height in new_h[j : j + 2])
        steps = steps - before.steps[at + j] + jnp.where(inside, step(left, right), 0)
    return steps
