"""Tests of a saved run's policy on fresh episodes."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import core
from jaxes.core import Population, Problem, Strategy, TrainState


class EvaluationResult(NamedTuple):
    """Returns of a run's policy over `episodes` fresh episodes, and the zero policy's mean."""

    generation: int
    episodes: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    floor_mean: float


def evaluate(
    problem: Problem,
    strategy: Strategy,
    run_dir: Path,
    *,
    train_seed: int,
    num_episodes: int = 100,
    seed: int = 0,
) -> EvaluationResult:
    """Tests the mean policy of the latest checkpoint, and the zero policy beside it.

    Args:
      problem: the run's problem.
      strategy: the run's strategy.
      run_dir: the run; it is only read.
      train_seed: the run's seed; test episodes never coincide with those of its training.
      num_episodes: at least 1.
      seed: of the episodes.

    Raises:
      ValueError: the run has no checkpoint, or one of another problem or strategy.
    """
    from jaxes.training.checkpoint import Checkpoints

    checkpoints = Checkpoints(run_dir / "checkpoints", read_only=True)
    generation = checkpoints.latest()
    if generation is None:
        raise ValueError(f"run: {run_dir} has no checkpoint yet")
    template = jax.jit(lambda key: core.init(key, strategy, problem))(jax.random.key(0))
    state = checkpoints.restore(generation, template)
    key = jax.random.fold_in(jax.random.key(train_seed), seed)
    test_key = jax.random.fold_in(key, jnp.iinfo(jnp.int32).max)

    @jax.jit
    def test(key: Array, state: TrainState) -> Array:
        population = Population(strategy.ask, key, state.strategy, strategy.population_size)
        evaluation = problem.evaluate(key, population, state.problem, jnp.bool_(True))
        return evaluation.metrics["test/returns"]

    def returns_of(state: TrainState) -> np.ndarray:
        returns = np.zeros(0)
        while returns.size < num_episodes:
            key = jax.random.fold_in(test_key, returns.size)
            returns = np.concatenate([returns, np.asarray(test(key, state), np.float64)])
        return returns[:num_episodes]

    returns = returns_of(state)
    zero = strategy.init(jnp.zeros_like(state.strategy.mean))
    return EvaluationResult(
        generation=generation,
        episodes=num_episodes,
        return_mean=float(returns.mean()),
        return_std=float(returns.std()),
        return_min=float(returns.min()),
        return_max=float(returns.max()),
        floor_mean=float(returns_of(state._replace(strategy=zero)).mean()),
    )
