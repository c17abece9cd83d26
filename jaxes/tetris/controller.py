"""A controller: features of a board with their weights; their weighted sum is the board's score."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_name, failing, is_array, is_number, show
from jaxes.tetris.boards import Board, check_size
from jaxes.tetris.feature import FEATURES, PLACEMENT, SETS, Placement, measure, total

OwnFeatures = Callable[[Board, Placement], Array]  # of one board: [F]
Features = str | tuple[str, ...] | OwnFeatures


@dataclasses.dataclass(frozen=True)
class Controller:
    """What is looked at, on boards of one size.

    Attributes:
      features: names of `jaxes.tetris.FEATURES`, in the order of the weights, or a function.
      height: rows of a board.
      width: columns, W.
    """

    features: tuple[str, ...] | OwnFeatures
    height: int
    width: int

    @classmethod
    def of(cls, features: Features | list[str], height: int, width: int) -> "Controller":
        """From the name of a set, names of features, or a function.

        Raises:
          ValueError: a board on which no piece has room, an unknown name, or a function that fails
            or returns no vector of numbers.
        """
        check_size(height, width)
        if callable(features):
            controller = cls(features, height, width)
            controller.sizes  # noqa: B018  # looks at what the function returns
            return controller
        if isinstance(features, str):
            check_name("features", features, [*SETS, *FEATURES])
            features = SETS.get(features, (features,))
        names = isinstance(features, tuple | list) and len(features) > 0
        check("features", features, names, "a set, names of features, or a function")
        for name in features:
            check_name("features", name, FEATURES)
        once = len(set(features)) == len(features)
        check("features", features, once, "names of features, each of them once")
        return cls(tuple(features), height, width)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its features; none of a function's."""
        return () if callable(self.features) else self.features

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """How many weights each feature has."""
        if not callable(self.features):
            several = {"heights": self.width, "differences": self.width - 1}
            return {name: several.get(name, 1) for name in self.features}
        zero = jnp.zeros((), jnp.int32)
        board = Board(jnp.ones(self.width, jnp.uint32), self.height)
        placement = Placement(zero.astype(jnp.float32), zero, zero)
        with failing("features fails"):
            found = jax.eval_shape(self.features, board, placement)
        vector = is_array(found, jnp.number) and found.ndim == 1 and found.size > 0
        check("features", show(found), vector, "a function to numbers [F]")
        return {"the function": found.size}

    @property
    def num_weights(self) -> int:
        """F."""
        return sum(self.sizes.values())

    def split(self, weights: Array) -> dict[str, Any]:
        """The weights [F, ...] by name: [W, ...] of heights, [W - 1, ...] of differences, else
        [...]."""
        ends = np.cumsum(list(self.sizes.values()))
        parts = zip(self.sizes.items(), ends, strict=True)
        return {
            name: weights[end - size : end] if size > 1 else weights[end - 1]
            for (name, size), end in parts
        }

    def score(self, weights: Array, columns: Sequence[Array], placement: Placement) -> Array:
        """Σ w φ, float32 [L], of boards with W columns [L]; always added in the same order.

        Args:
          weights: float32 [F, L].
          columns: uint32 [L], W of them.
          placement: of the last piece of each board, each array [L].
        """
        if callable(self.features):
            boards = Board(jnp.stack(list(columns), axis=1), self.height)
            return total(list(weights * jax.vmap(self.features)(boards, placement).T))
        values = measure(self.features, columns, self.height, placement)
        terms = []
        for name, w in self.split(weights).items():
            several = isinstance(values[name], list)
            pairs = zip(w, values[name], strict=True) if several else [(w, values[name])]
            terms.append(total([weight * value for weight, value in pairs]))
        return total(terms)


def features(
    board: Board, names: Features | list[str], placement: Placement | None = None
) -> Array:
    """The features of one board, float32 [F].

    Args:
      board: of `jaxes.tetris.board`.
      names: a set of `jaxes.tetris.SETS`, names of `jaxes.tetris.FEATURES`, or a function.
      placement: of the last piece; needed where `landing_height` or `eroded_cells` is among them.

    Raises:
      ValueError: no board, an unknown feature, or one of a placement that is not given.

    Example:
      >>> jaxes.tetris.features(jaxes.tetris.board(["XX.X", "X..."]), ["holes", "wells"])
    """
    check("board", board, isinstance(board, Board), "made by jaxes.tetris.board")
    controller = Controller.of(names, board.height, board.columns.size)
    of_placement = [name for name in controller.names if name in PLACEMENT]
    if placement is None:
        needs = f"a jaxes.tetris.Placement, for {', '.join(of_placement)}"
        check("placement", placement, not of_placement, needs)
        placement = Placement(jnp.zeros(()), jnp.int32(0), jnp.int32(0))
    made = isinstance(placement, Placement) and all(np.shape(x) == () for x in placement)
    made = made and all(is_number(x) for x in placement)
    check("placement", placement, made, "a jaxes.tetris.Placement of three numbers")
    if callable(controller.features):
        return jnp.asarray(controller.features(board, placement), jnp.float32)
    values = measure(controller.features, list(board.columns), board.height, placement)
    return jnp.concatenate([jnp.atleast_1d(jnp.asarray(v, jnp.float32)) for v in values.values()])
