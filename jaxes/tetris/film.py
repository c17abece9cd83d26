"""One game, piece by piece, to be watched or filmed."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxes.checks import check, check_count, check_seed
from jaxes.film import Film
from jaxes.tetris import game
from jaxes.tetris.boards import Board, draw
from jaxes.tetris.game import OVER, Game
from jaxes.tetris.games import MAX_PIECES
from jaxes.tetris.pieces import CELLS
from jaxes.tetris.published import Weighted, checked

CELL, LINE = 12, 1  # pixels of a cell and between cells
GROUND, FULL = (24, 26, 32), (86, 182, 194)
HELD = 2  # seconds that the last board stays


class Frame(NamedTuple):
    """After a piece was placed."""

    board: Board
    lines: int
    pieces: int
    over: bool


def frames(controller: Weighted, max_pieces: int = MAX_PIECES, seed: int = 0) -> Iterator[Frame]:
    """A game from an empty board to its end, or to its last piece.

    Raises:
      ValueError: a count or a seed out of range, or weights that do not fit.
    """
    check_count("max_pieces", max_pieces, maximum=MAX_PIECES)
    check_seed("seed", seed)
    return _frames(checked("controller", controller), max_pieces, seed)


def _frames(controller: Weighted, max_pieces: int, seed: int) -> Iterator[Frame]:
    weights = jnp.asarray(controller.weights, jnp.float32)[:, None]
    place = jax.jit(functools.partial(game.place, controller.controller, max_pieces))
    state = game.start(controller.controller, jax.random.key(seed)[None])
    played, ended = Game(*jnp.zeros((3, 1), jnp.int32)), False
    while not ended:
        before = int(played.pieces[0])
        state, played, over = place(weights, state, played)
        ended = bool(over[0])
        if played.pieces[0] > before:
            board = Board(state.columns[:, 0], controller.controller.height)
            lines, pieces = int(played.lines[0]), int(played.pieces[0])
            yield Frame(board, lines, pieces, int(played.ended[0]) == OVER)


def filmed(played: Sequence[Frame], pieces_per_second: float = 10.0) -> Film:
    """The film of a game; its last board stays for two seconds.

    Raises:
      ValueError: there is no frame.
    """
    check("played", len(played), len(played) > 0, "of at least one frame")
    boards = [_pixels(frame.board) for frame in played]
    held = [boards[-1]] * max(1, round(HELD * pieces_per_second))
    last = played[-1]
    return Film(np.stack(boards[:-1] + held), pieces_per_second, last.lines, last.pieces)


def _pixels(board: Board) -> np.ndarray:
    """uint8 [rows, columns, 3], the board from the top down with the rows that a piece may end in
    above it."""
    rows = draw(Board(board.columns, board.height + CELLS)).split()
    image = np.full((len(rows) * CELL, len(rows[0]) * CELL, 3), GROUND, np.uint8)
    for row, line in enumerate(rows):
        for column, mark in enumerate(line):
            if mark == "X":
                corner = (row * CELL, column * CELL)
                image[corner[0] : corner[0] + CELL - LINE, corner[1] : corner[1] + CELL - LINE] = (
                    FULL
                )
    return image
