"""Tetris as plainly as can be, on lists of rows in Python, to compare the fast one with."""

import numpy as np

PIECES = {
    "I": ["X/X/X/X", "XXXX"],
    "O": ["XX/XX"],
    "T": ["X./XX/X.", "XXX/.X.", ".X/XX/.X", ".X./XXX"],
    "Z": ["X./XX/.X", ".XX/XX."],
    "S": [".X/XX/X.", "XX./.XX"],
    "J": ["XXX/X..", "XX/.X/.X", "..X/XXX", "X./X./XX"],
    "L": ["X../XXX", "XX/X./X.", "XXX/..X", ".X/.X/XX"],
}


def cells_of(drawing):
    """(row, column) of each cell, rows from the bottom up."""
    rows = drawing.split("/")
    return [(r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark == "X"]


def height_of(board, column):
    return max([r + 1 for r, row in enumerate(board) if row[column]], default=0)


def drop(board, drawing, column):
    """The board with the piece, not cleared, and its lowest row. A board is a list of rows."""
    cells = cells_of(drawing)
    base = max(
        height_of(board, column + c) - min(r for r, k in cells if k == c)
        for c in {k for _, k in cells}
    )
    width = len(board[0])
    rows = [list(row) for row in board]
    while len(rows) < base + 4:
        rows.append([False] * width)
    for r, c in cells:
        rows[base + r][column + c] = True
    return rows, base


class Afterstate:
    """What comes of a placement: `over`, `board`, `lines`, `eroded`, `landing`."""

    def __init__(self, board, drawing, column, height):
        rows, base = drop(board, drawing, column)
        self.number = column
        top = max(height_of(rows, c) for c in range(len(rows[0])))
        self.over = top > height
        full = [] if self.over else [r for r, row in enumerate(rows) if all(row)]
        mine = {base + r for r, _ in cells_of(drawing)}
        in_full = sum((base + r) in full for r, _ in cells_of(drawing))
        assert set(full) <= mine
        self.lines = len(full)
        self.eroded = len(full) * in_full
        self.landing = base + (len(drawing.split("/")) - 1) / 2
        kept = [row for r, row in enumerate(rows) if r not in full]
        size = height if not self.over else max(height, top)
        kept = kept[:size] + [[False] * len(rows[0])] * (size - len(kept))
        self.board = kept


def afterstates(board, piece, height):
    """In (orientation, column) order."""
    width = len(board[0])
    return [
        Afterstate(board, drawing, column, height)
        for drawing in PIECES[piece]
        for column in range(width - len(drawing.split("/")[0]) + 1)
    ]


def features(board, names, after=None):
    """One list of numbers, of a board of `height` rows."""
    height, width = len(board), len(board[0])
    heights = [height_of(board, c) for c in range(width)]

    def full(r, c):
        return not 0 <= c < width or r < 0 or (r < height and board[r][c])

    holes = [(r, c) for c in range(width) for r in range(heights[c]) if not board[r][c]]

    def depth(r, c):
        d = 0
        while not full(r - d, c):
            d += 1
        return d

    def wells(fast):
        total = 0
        for c in range(width):
            started = False
            for r in reversed(range(height)):
                if full(r, c):
                    started = False
                elif (full(r, c - 1) and full(r, c + 1)) or (fast and started):
                    started = True
                    total += depth(r, c)
        return total

    def run_above(r, c):
        n = 0
        while r + n + 1 < height and board[r + n + 1][c]:
            n += 1
        return n

    steps = [heights[c + 1] - heights[c] for c in range(width - 1)]
    found = {
        "heights": lambda: heights,
        "differences": lambda: [abs(s) for s in steps],
        "max_height": lambda: max(heights),
        "holes": lambda: len(holes),
        "constant": lambda: 1,
        "row_transitions": lambda: sum(
            full(r, c) != full(r, c + 1) for r in range(height) for c in range(-1, width)
        ),
        "column_transitions": lambda: sum(
            full(r, c) != full(r - 1, c) for c in range(width) for r in range(height + 1)
        ),
        "wells": lambda: wells(False),
        "fast_wells": lambda: wells(True),
        "hole_depth": lambda: sum(run_above(r, c) for r, c in holes),
        "rows_with_holes": lambda: len({r for r, _ in holes}),
        "diversity": lambda: len({s for s in steps if abs(s) <= 2}),
        "landing_height": lambda: after.landing,
        "eroded_cells": lambda: after.eroded,
    }
    return np.concatenate([np.atleast_1d(np.asarray(found[name](), float)) for name in names])


def choose(board, piece, names, weights, height):
    """The index of the afterstate to take, and all scores (-inf of those that end the game)."""
    options = afterstates(board, piece, height)
    scores = [
        -np.inf if o.over else float(np.dot(weights, features(o.board, names, o))) for o in options
    ]
    return int(np.argmax(scores)), np.array(scores), options
