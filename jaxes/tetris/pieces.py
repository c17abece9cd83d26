"""The seven pieces, their orientations, and how placements are numbered.

An orientation is drawn in rows from the bottom up. Those of a piece keep the order of MDPTetris,
the simulator of the published scores (Thiery & Scherrer 2009), since ties go to the first of them.
"""

from typing import NamedTuple

import numpy as np

PIECES: dict[str, tuple[str, ...]] = {
    "I": ("X/X/X/X", "XXXX"),
    "O": ("XX/XX",),
    "T": ("X./XX/X.", "XXX/.X.", ".X/XX/.X", ".X./XXX"),
    "Z": ("X./XX/.X", ".XX/XX."),
    "S": (".X/XX/X.", "XX./.XX"),
    "J": ("XXX/X..", "XX/.X/.X", "..X/XXX", "X./X./XX"),
    "L": ("X../XXX", "XX/X./X.", "XXX/..X", ".X/.X/XX"),
}
CELLS = 4  # of a piece, and the most columns or rows of one
ABSENT = 64  # in the place of a column that an orientation has not: beyond every height


class Orientation(NamedTuple):
    """One orientation, column by column.

    Attributes:
      cells: int [4], column j's cells as bits, the piece's lowest row first; 0 if there is none.
      bottom: int [4], rows of column j below its lowest cell; `ABSENT` if there is none.
      top: int [4], rows of column j up to its highest cell; `-ABSENT` if there is none.
      width: columns.
      height: rows.
    """

    cells: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    width: int
    height: int


def orientation(drawing: str) -> Orientation:
    """Read from a drawing, rows from the bottom up, parted by `/`."""
    rows = drawing.split("/")
    full = np.zeros((CELLS, CELLS), bool)  # [column, row]
    for row, line in enumerate(rows):
        for column, mark in enumerate(line):
            full[column, row] = mark == "X"
    there = full.any(axis=1)
    return Orientation(
        cells=full @ (1 << np.arange(CELLS)),
        bottom=np.where(there, full.argmax(axis=1), ABSENT),
        top=np.where(there, CELLS - full[:, ::-1].argmax(axis=1), -ABSENT),
        width=len(rows[0]),
        height=len(rows),
    )


ORIENTATIONS = [[orientation(drawing) for drawing in piece] for piece in PIECES.values()]


class Slot(NamedTuple):
    """Orientations of about one width, at most one of each piece, which all lanes try together.

    Attributes:
      number: int [7], which orientation of a piece it is; -1 if the piece has none here.
      narrow: columns of the narrowest.
      most: columns of the widest.
    """

    number: np.ndarray
    narrow: int
    most: int

    def orientations(self) -> list[Orientation]:
        """Of each piece, that of one of them in the place of those that have none."""
        some = next(ORIENTATIONS[piece][n] for piece, n in enumerate(self.number) if n >= 0)
        return [ORIENTATIONS[p][n] if n >= 0 else some for p, n in enumerate(self.number)]


def _slots() -> tuple[Slot, ...]:
    """Four slots, flat and upright in turn, so that each piece's orientations keep their order but
    for the two of a pair: of some pieces the upright one is the first."""
    numbers: np.ndarray = np.full((4, len(PIECES)), -1)
    for piece, orientations in enumerate(ORIENTATIONS):
        seen = [0, 0]
        for number, each in enumerate(orientations):
            upright = each.width < 3
            numbers[2 * seen[upright] + upright, piece] = number
            seen[upright] += 1
    slots = []
    for number in numbers:
        widths = [ORIENTATIONS[piece][n].width for piece, n in enumerate(number) if n >= 0]
        slots.append(Slot(number, min(widths), max(widths)))
    return tuple(slots)


SLOTS = _slots()
