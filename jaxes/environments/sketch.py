"""Pictures of simple physics: rods, boxes and discs, in meters and with smooth edges."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

SMOOTH = 4  # drawn so many times as large, and made smaller
PAPER, INK, ACCENT, FAINT = (250, 250, 248), (38, 43, 51), (196, 82, 52), (201, 203, 206)
Point = tuple[float, float]  # m, to the right and up
Color = tuple[int, int, int]


class Sketch:
    """One picture, of a part of the plane.

    Args:
      width: pixels.
      height: pixels.
      center: of what is seen.
      reach: how far it is seen from there at least, to each side and up and down.
    """

    def __init__(self, width: int, height: int, center: Point, reach: Point):
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (SMOOTH * width, SMOOTH * height), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._scale = SMOOTH * min(width / reach[0], height / reach[1]) / 2
        self._center = center

    def rod(self, start: Point, end: Point, thickness: float, color: Color) -> None:
        """A line with round ends."""
        (x, y), (to_x, to_y) = start, end
        length = math.hypot(to_x - x, to_y - y) or 1.0
        across = (y - to_y) / length * thickness / 2, (to_x - x) / length * thickness / 2
        corners = [
            (point[0] + side * across[0], point[1] + side * across[1])
            for point, side in ((start, 1), (end, 1), (end, -1), (start, -1))
        ]
        self._draw.polygon([self._at(corner) for corner in corners], fill=color)
        for point in (start, end):
            self.disc(point, thickness / 2, color)

    def box(self, center: Point, size: Point, color: Color) -> None:
        x, y = center
        across, up = size[0] / 2, size[1] / 2
        corners = [self._at((x - across, y + up)), self._at((x + across, y - up))]
        self._draw.rounded_rectangle(corners, self._scale * up / 3, fill=color)

    def disc(self, center: Point, radius: float, color: Color) -> None:
        x, y = center
        corners = [self._at((x - radius, y + radius)), self._at((x + radius, y - radius))]
        self._draw.ellipse(corners, fill=color)

    def pixels(self) -> np.ndarray:
        """uint8 `[H, W, 3]`."""
        return np.asarray(self._image.reduce(SMOOTH))

    def _at(self, point: Point) -> Point:
        width, height = self._image.size
        across = width / 2 + self._scale * (point[0] - self._center[0])
        return across, height / 2 - self._scale * (point[1] - self._center[1])


def sketched(
    draw: Callable[[Sketch, Any], None],
    states: Any,
    width: int,
    height: int,
    *,
    center: Point,
    reach: Point,
) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, a sketch of each of the states `[T]`; `draw` draws one of them."""
    frames = []
    for step in range(len(jax.tree.leaves(states)[0])):
        sketch = Sketch(width, height, center, reach)
        draw(sketch, jax.tree.map(lambda leaf, step=step: leaf[step], states))
        frames.append(sketch.pixels())
    return np.stack(frames)
