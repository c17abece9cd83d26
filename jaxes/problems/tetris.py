"""Tetris: the fitness of a weight vector is the number of lines that its controller removes."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import MAX_COUNT, check_count
from jaxes.core import TEST, TRAIN, Evaluation, Population, Problem, Tests
from jaxes.problems.numbering import Numbering, solutions
from jaxes.rollouts.lanes import Jobs, rollout
from jaxes.specs import of_function, recorded
from jaxes.tetris import game
from jaxes.tetris.controller import Controller, Features
from jaxes.tetris.game import CAPPED, NO_NUMBER, Game
from jaxes.tetris.games import MAX_PIECES
from jaxes.tetris.games import width as width_for
from jaxes.tetris.published import MAX_WEIGHT
from jaxes.trials import vmapped_into_one_queue

MAX_EPISODES = 2**15  # of a member: sums of their lines are exact


class HParams(NamedTuple):
    pass


@recorded(of_function)
def tetris(
    height: int = 20,
    width: int = 10,
    features: Features = "bertsekas",
    num_episodes: int = 1,
    max_pieces: int | None = None,
    num_test_episodes: int = 30,
    num_lanes: int | None = None,
) -> Problem:
    """Tetris as the cross-entropy papers play it, by a linear controller.

    A solution is a vector of weights, one a feature. Each piece is placed where the board that it
    leaves has the greatest weighted sum of features; fitness is the mean number of lines that the
    member's games remove until the board is full. Each game draws pieces of its own, as was
    published; the search starts at zero.

    Args:
      height: rows of the board, 4 to 26; 20 in most papers, 10 for quick games.
      width: columns, 4 to 30.
      features: what a controller sees: a set of `jaxes.tetris.SETS` (`bertsekas`, `dellacherie`,
        `du`, `dt`, `dt_fast_wells`), names of `jaxes.tetris.FEATURES`, or a function
        `(board, placement) -> [F]` (see `jaxes.tetris.Board`).
      num_episodes: games a member and generation.
      max_pieces: a game is cut after so many; by default it ends by itself. Cut ones are counted
        as `rollout/truncated`, those of tests in `Tests.truncated`.
      num_test_episodes: games in a test of the mean.
      num_lanes: games played side by side on a device; by default what suits it.

    Raises:
      ValueError: a board too small for a piece or too high for its bits, an unknown feature, a
        function that fails or returns no vector, a count below 1.

    Example:
      >>> problem = jaxes.problems.tetris(height=10, features="dt")
      >>> jaxes.train(problem, jaxes.cem(100, sigma=10.0, noise=4.0), num_generations=20)

    Reference: Szita & Lőrincz, Learning Tetris using the noisy cross-entropy method (2006).
    """
    controller = Controller.of(features, height, width)
    most = MAX_PIECES if max_pieces is None else max_pieces
    for field, value, maximum in [
        ("num_episodes", num_episodes, MAX_EPISODES),
        ("num_test_episodes", num_test_episodes, MAX_EPISODES),
        ("max_pieces", most, MAX_PIECES),
        ("num_lanes", 1 if num_lanes is None else num_lanes, MAX_COUNT),
    ]:
        check_count(field, value, maximum=maximum)
    simulation = game.simulation(controller, most)

    @vmapped_into_one_queue
    def evaluate(
        keys: Array, populations: Population, problem_states: Any, phases: Array
    ) -> Evaluation:
        numbering = Numbering(populations.size, num_episodes, num_test_episodes, phases.size)
        jobs = jnp.arange(numbering.num_trials * numbering.num_jobs, dtype=jnp.int32)
        needed = jnp.where(numbering.is_test(jobs), TEST, TRAIN).reshape(phases.size, -1)
        game_keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        results = rollout(
            simulation,
            Jobs(
                pending=(needed == phases[:, None]).reshape(-1),
                origins=game_keys(keys, jobs[: numbering.num_jobs]).reshape(-1),
                episode=jobs,
                context=lambda jobs: _sound(solutions(numbering, populations, jobs)).T,
            ),
            width_for(numbering.num_trials * numbering.num_train_jobs, num_lanes),
        )
        games = jax.tree.map(lambda leaf: leaf.reshape(phases.size, -1), results.outcomes)
        pieces = jnp.sum(results.outcomes.pieces.astype(jnp.float32))
        utilization = pieces / jnp.maximum(results.lane_steps, 1)
        return jax.vmap(partial(_score, numbering), (0, None))(games, utilization)

    return Problem(
        init=lambda key, hparams=None: (),
        evaluate=evaluate,
        initial_mean=lambda key: jnp.zeros(controller.num_weights),
        hparams=HParams(),
    )


def _sound(weights: Array) -> Array:
    """Vectors [M, F]; NaN as a whole where a number is none or is huge: no game is played."""
    sound = jnp.all(jnp.abs(weights) <= MAX_WEIGHT, axis=1, keepdims=True)
    return jnp.where(sound, weights, jnp.nan)


def _score(numbering: Numbering, games: Game, utilization: Array) -> Evaluation:
    """What the games [J] of one trial come to."""
    train = jax.tree.map(lambda leaf: leaf[: numbering.num_train_jobs], games)
    test = jax.tree.map(lambda leaf: leaf[numbering.num_train_jobs :], games)
    members = jax.tree.map(lambda leaf: leaf.reshape(numbering.population_size, -1), train)
    lost = jnp.any(members.ended == NO_NUMBER, axis=1)
    fitness = jnp.where(lost, jnp.nan, exact_mean(members.lines))
    pieces = jnp.mean(exact_mean(members.pieces))
    return Evaluation(
        fitness=fitness,
        problem_state=(),
        metrics={
            "return/mean": jnp.nanmean(fitness),
            "return/max": jnp.nanmax(fitness),
            "rollout/env_steps": pieces * train.pieces.size,
            "rollout/episode_length": pieces,
            "rollout/diverged": jnp.sum(train.ended == NO_NUMBER),
            "rollout/truncated": jnp.sum(train.ended == CAPPED),
            "rollout/utilization": utilization,
        },
        tests=Tests(
            returns=test.lines.astype(jnp.float32),
            length=test.pieces,
            diverged=test.ended == NO_NUMBER,
            truncated=test.ended == CAPPED,
        ),
    )


def exact_mean(counts: Array) -> Array:
    """The mean of int32 counts over the last axis, to float32's precision: their sum, which int32
    does not hold, is of two words."""
    high, low = jnp.sum(counts >> 16, axis=-1), jnp.sum(counts & 0xFFFF, axis=-1)
    high, low = high + (low >> 16), low & 0xFFFF
    return (high.astype(jnp.float32) * 2.0**16 + low.astype(jnp.float32)) / counts.shape[-1]
