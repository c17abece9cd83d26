"""Tetris as the cross-entropy papers play it: boards, features, controllers, and the game.

    board = jaxes.tetris.board(["XXX.", "X..."], height=10)
    jaxes.tetris.features(board, "bertsekas")

`pieces` has the seven pieces, `boards` boards as bits, `feature` what a controller sees of them,
`controller` the weighted sum of it, `published` those with a name or in a file, `placements` the
judgement of all placements at once, and `game` the step that the lanes run. To search for weights,
see `jaxes.problems.tetris`.
"""

from jaxes.tetris.boards import Board, board, draw
from jaxes.tetris.controller import Controller, features
from jaxes.tetris.feature import FEATURES, SETS, Placement
from jaxes.tetris.games import Score, score
from jaxes.tetris.published import PUBLISHED, Weighted, published, read

__all__ = [
    "FEATURES",
    "PUBLISHED",
    "SETS",
    "Board",
    "Controller",
    "Placement",
    "Score",
    "Weighted",
    "board",
    "draw",
    "features",
    "published",
    "read",
    "score",
]
