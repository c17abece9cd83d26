"""How many lines a controller removes: its mean over many games, with an interval."""

import functools
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import parallel
from jaxes.checks import check_count, check_seed
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.rollouts.width import Width, suitable_lanes
from jaxes.statistics import half_interval
from jaxes.tetris import game
from jaxes.tetris.game import CAPPED, Game
from jaxes.tetris.published import Weighted, checked

MAX_PIECES = 2**31 - 1  # of a game, which are counted in int32
MAX_GAMES = 2**24
BLOCK = 16  # of the last games on CPU: a step of fewer lanes costs hardly less
SYNC = 1000  # steps between two divisions of the games among devices: games are long


class Score(NamedTuple):
    """What games came to.

    Attributes:
      lines: int64 [games], rows removed.
      pieces: int64 [games], pieces placed.
      capped: bool [games], cut while they could have gone on: such a score is a lower bound.
      seconds: that playing took, compilation apart.
    """

    lines: np.ndarray
    pieces: np.ndarray
    capped: np.ndarray
    seconds: float

    def plain(self) -> dict[str, Any]:
        """The numbers that are told, sums in float64; the interval is the half of its width."""
        games, lines = self.lines.size, int(self.lines.sum())
        return {
            "lines_mean": lines / games,
            "lines_ci95": half_interval(self.lines),
            "games": games,
            "capped": int(self.capped.sum()),
            "pieces_per_line": int(self.pieces.sum()) / lines if lines else math.nan,
            "pieces_per_second": int(self.pieces.sum()) / self.seconds,
        }


def score(
    controller: Weighted, num_games: int = 1000, *, max_pieces: int | None = None, seed: int = 0
) -> Score:
    """Plays games with a controller, on all devices.

    Args:
      controller: of `jaxes.tetris.published` or `read`, or a `Weighted` of your own.
      num_games: at least 1.
      max_pieces: a game is cut after so many; by default it ends by itself.
      seed: of the pieces.

    Raises:
      ValueError: a count or a seed out of range, or not as many weights as features.

    Example:
      >>> jaxes.tetris.score(jaxes.tetris.published("dt10", height=10), 100).plain()
    """
    most = MAX_PIECES if max_pieces is None else max_pieces
    check_count("num_games", num_games, maximum=MAX_GAMES)
    check_count("max_pieces", most, maximum=MAX_PIECES)
    check_seed("seed", seed)
    play = player(checked("controller's weights", controller), num_games, most)
    key = parallel.place(jax.random.key(seed))
    program = jax.jit(play).lower(key).compile()
    started = time.monotonic()
    games, _ = jax.device_get(jax.block_until_ready(program(key)))
    seconds = time.monotonic() - started
    return Score(
        lines=games.lines.astype(np.int64),
        pieces=games.pieces.astype(np.int64),
        capped=games.ended == CAPPED,
        seconds=seconds,
    )


def player(
    controller: Weighted, num_games: int, max_pieces: int, num_lanes: int | None = None
) -> Any:
    """`(key) -> (games [num_games], steps of lanes)`, on all devices."""
    weights = jnp.asarray(controller.weights, jnp.float32)
    simulation = game.simulation(controller.controller, max_pieces)
    jobs = jnp.arange(num_games, dtype=jnp.int32)

    def play(key: Array) -> tuple[Game, Array]:
        results = rollout(
            simulation,
            Jobs(
                pending=jnp.ones(num_games, bool),
                origins=jax.vmap(functools.partial(jax.random.fold_in, key))(jobs),
                episode=jobs,
                context=lambda some: jnp.broadcast_to(weights[:, None], (weights.size, some.size)),
            ),
            width(num_games, num_lanes),
        )
        return results.outcomes, results.lane_steps

    return parallel.replicated(play)


def width(num_jobs: int, num_lanes: int | None = None) -> Width:
    """That suits games of Tetris."""
    found = Width.of(suitable_lanes(num_jobs) if num_lanes is None else num_lanes)
    found = found._replace(sync=SYNC)
    if found.tail < BLOCK:
        return found._replace(tail=0)
    return found._replace(tail=found.tail // BLOCK * BLOCK, block=BLOCK)
