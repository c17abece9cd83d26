"""The game as lanes run it: one step places one piece in each of L games.

    of the piece's placements, take the one that leaves the board with the best score
    remove the rows that it completed; the game ends where the piece does not fit
    draw the next piece, uniformly and independently

Where a piece ends above the board, the game is over, and its rows are not removed; such a placement
is taken only where there is no other. A step judges all placements that complete no row, and one
that completes some. In a game with more of those nothing is placed in that step: they are judged
one a step, seven steps a hundred pieces.
"""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.rollouts.lanes import Simulation
from jaxes.tetris import boards
from jaxes.tetris.apart import apart
from jaxes.tetris.controller import Controller
from jaxes.tetris.feature import Placement, count, total
from jaxes.tetris.pieces import CELLS, PIECES
from jaxes.tetris.placements import LOSING, NONE, choices, larger, lookup, slots

OVER, CAPPED, NO_NUMBER = 1, 2, 3


class Game(NamedTuple):
    """What a game leaves, int32 [L].

    Attributes:
      lines: rows removed.
      pieces: pieces placed.
      ended: how: `OVER`, the board was full; `CAPPED`, after the most pieces that it may have;
        `NO_NUMBER`, no placement had a score, as where weights are NaN.
    """

    lines: Array
    pieces: Array
    ended: Array


class State(NamedTuple):
    """Where games are.

    Attributes:
      columns: uint32 [W, L], the boards.
      piece: int32 [L], the one to place.
      random: uint32 [4, L], from which further pieces are drawn.
      seen: int32 [L], the index up to which the piece's placements have been judged apart.
      best: int32 [L], the best of those; `NONE` before the first.
      score: float32 [L], of that one.
    """

    columns: Array
    piece: Array
    random: Array
    seen: Array
    best: Array
    score: Array


def simulation(controller: Controller, max_pieces: int) -> Simulation:
    """Tetris for the lanes: a job's context is its weights, float32 [F, L]."""
    zero = jnp.zeros((), jnp.int32)

    def step(weights: Array, state: State, game: Game, tally: tuple[()]) -> tuple:
        state, game, ended = place(controller, max_pieces, weights, state, game)
        return state, game, tally, ended

    return Simulation(
        start=functools.partial(start, controller),
        step=step,
        outcome=Game(zero, zero, zero),
        tally=(),
        axis=-1,
    )


def start(controller: Controller, keys: Array) -> State:
    """Empty boards, each with its first piece, for keys [L]."""
    random = jax.vmap(lambda key: jax.random.bits(key, (4,), jnp.uint32))(keys).T
    random, piece = draw(random.at[0].set(random[0] | 1))  # all zeros would stay zeros
    return _with_piece(boards.empty(controller.width, keys.size), piece, random)


def _with_piece(columns: Array, piece: Array, random: Array) -> State:
    """No placement of these pieces has been judged."""
    return State(
        columns=columns,
        piece=piece,
        random=random,
        seen=jnp.full_like(piece, -1),
        best=jnp.full_like(piece, NONE),
        score=jnp.full(piece.shape, -jnp.inf, jnp.float32),
    )


def draw(random: Array) -> tuple[Array, Array]:
    """The generator [4, L] moved on, and pieces, int32 [L], uniform to 2⁻²⁹.

    Blackman & Vigna, Scrambled linear pseudorandom number generators (2021): xoshiro128+.
    """
    a, b, c, d = random
    piece = ((a + d) >> 3) * np.uint32(len(PIECES)) >> 29
    c, d = c ^ a, d ^ b
    moved = jnp.stack([a ^ d, b ^ c, c ^ (b << 9), d << 11 | d >> 21])
    return moved, piece.astype(jnp.int32)


def place(
    controller: Controller, max_pieces: int, weights: Array, state: State, game: Game
) -> tuple[State, Game, Array]:
    """The states after one more step, what games have come to, and which of them ended."""
    running = game.pieces[0] >= 0
    once = functools.partial(apart, running)
    given = (weights, state.columns, state.piece)
    found = choices(controller, *given, state.seen, running)
    judged = once(functools.partial(_judge, controller), *given, found.apart)
    some, number = found.apart < NONE, functools.partial(_number, controller, state.piece)
    tie = (judged == state.score) & (number(found.apart) < number(state.best))
    better = some & ((judged > state.score) | tie)
    score = jnp.where(better, judged, state.score)
    best = jnp.where(better, found.apart, state.best)

    landing = once(functools.partial(_land, controller), *given, found.best, best, score)
    over, none = landing >> 30 & 1 > 0, landing >> 31 > 0
    after = once(_put, state.columns, landing)
    full = once(functools.partial(_full_rows, controller.height), after, over)
    placed = ~(some & found.others)
    ended = placed & (over | none)
    pieces = game.pieces + (placed & ~none)
    capped = placed & (pieces >= max_pieces) & ~ended
    game = Game(
        lines=game.lines + jnp.where(placed, count(full), 0),
        pieces=pieces,
        ended=jnp.where(capped, CAPPED, jnp.where(none, NO_NUMBER, OVER) * ended),
    )
    new = _with_piece(once(boards.remove, after, full), *draw(state.random)[::-1])
    old = state._replace(seen=found.apart, best=best, score=score)
    return jax.tree.map(functools.partial(jnp.where, placed), new, old), game, ended | capped


def _number(controller: Controller, piece: Array, index: Array) -> Array:
    """Of a placement, its number among the piece's own, int32 [L]: ties go to the least."""
    number = jnp.full_like(index, NONE)
    for slot, begin, end in slots(controller.width):
        first = lookup((slot.number * controller.width).astype(np.int32), piece)
        here = (index >= begin) & (index < end)
        number = jnp.where(here, first + index - begin, number)
    return number


def _where(controller: Controller, piece: Array, index: Array) -> tuple[Array, Array, Array]:
    """Of a placement, int32 [L]: its orientation's cells, four bits a column, and rows; and its
    first column."""
    cells = height = column = jnp.zeros_like(index)
    for slot, begin, end in slots(controller.width):
        shapes, here = slot.orientations(), (index >= begin) & (index < end)
        words = [sum(int(bits) << CELLS * j for j, bits in enumerate(s.cells)) for s in shapes]
        rows = lookup(np.array([s.height for s in shapes], np.int32), piece)
        cells = jnp.where(here, lookup(np.array(words, np.int32), piece), cells)
        height = jnp.where(here, rows, height)
        column = jnp.where(here, index - begin, column)
    return cells, height, column


def _drop(columns: Array, cells: Array, column: Array) -> tuple[list[Array], Array]:
    """The columns [L] with the piece, and the rows below it."""
    width = len(columns)
    parts = [cells >> CELLS * i & 15 for i in range(CELLS)]
    begins = [column == k for k in range(width)]
    lands, bits = jnp.zeros(column.shape, jnp.float32), []
    for k in range(width):
        part = jnp.zeros_like(cells)
        for i in range(min(k + 1, CELLS)):
            part = jnp.where(begins[k - i], parts[i], part)
        bottom = jnp.where(part & 1 > 0, 0.0, jnp.where(part & 2 > 0, 1.0, 2.0))
        lowest = boards.heights(columns[k]) - bottom
        lands = jnp.where(part > 0, larger(lands, lowest), lands)
        bits.append(part)
    lands = lands.astype(jnp.int32)
    unit = 2 << lands
    return [columns[k] | (bits[k] * unit).astype(jnp.uint32) for k in range(width)], lands


def _judge(
    controller: Controller, weights: Array, columns: Array, piece: Array, index: Array
) -> Array:
    """The score of the board that a placement leaves, float32 [L]."""
    cells, height, column = _where(controller, piece, index)
    after, lands = _drop(columns, cells, column)
    full = boards.full_rows(after, controller.height)
    in_full = full >> (lands + 1).astype(jnp.uint32)  # of the piece's rows
    rows = [cells >> CELLS * j & 15 & in_full.astype(jnp.int32) for j in range(CELLS)]
    placement = Placement(
        landing_height=lands + (height.astype(jnp.float32) - 1) / 2,
        lines=count(full),
        eroded_cells=count(full) * total([count(row) for row in rows]),
    )
    left = [boards.remove(x, full) for x in after]
    score = controller.score(weights, left, placement)
    return jnp.where(lands + height > controller.height, LOSING, score)


def _land(
    controller: Controller,
    weights: Array,
    columns: Array,
    piece: Array,
    best: Array,
    best_apart: Array,
    score_apart: Array,
) -> Array:
    """Which placement is taken, the best one or the best of those judged apart, and where it lands,
    in one word: its cells (16 bits), rows below (5), first column (5), and, from bit 30 on, whether
    it ends the game, and whether there is none."""
    score = jnp.where(best < NONE, _judge(controller, weights, columns, piece, best), -jnp.inf)
    number = functools.partial(_number, controller, piece)
    tie = (score_apart == score) & (number(best_apart) < number(best))
    index = jnp.where((score_apart > score) | tie, best_apart, best)
    cells, height, column = _where(controller, piece, index)
    _, lands = _drop(columns, cells, column)
    over = lands + height > controller.height
    parts = (cells, lands << 16, column << 21, over.astype(jnp.int32) << 30)
    word = functools.reduce(operator.or_, parts).astype(jnp.uint32)
    return word | (index == NONE).astype(jnp.uint32) << 31


def _put(columns: Array, landing: Array) -> Array:
    """The columns [W, L] with the piece."""
    first = (landing >> 21 & 31).astype(jnp.int32)
    j = jnp.arange(len(columns), dtype=jnp.int32)[:, None] - first
    bits = jnp.zeros_like(columns)
    for i in range(CELLS):
        bits = jnp.where(j == i, landing >> CELLS * i & 15, bits)
    return columns | bits << ((landing >> 16 & 31) + 1)


def _full_rows(height: int, columns: Array, over: Array) -> Array:
    return jnp.where(over, 0, boards.full_rows(list(columns), height))
