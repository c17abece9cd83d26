"""Tests of a saved run's policy on fresh episodes."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxes import core, parallel
from jaxes.core import Population, Problem, Strategy, Tests, TrainState
from jaxes.training.program import summarize
from jaxes.training.trainer import keys_of, with_zero_mean


class EvaluationResult(NamedTuple):
    """Returns of a run's policy over fresh test episodes, and the zero policy's mean."""

    generation: int
    return_mean: float
    return_std: float
    num_test_episodes: int
    num_test_diverged: int
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
    _, _, test_key = keys_of(train_seed)
    key = jax.random.fold_in(test_key, seed)

    @jax.jit
    @parallel.replicated
    def test(key: Array, state: TrainState) -> Tests:
        population = Population(strategy.ask, key, state.strategy, strategy.population_size)
        tests = problem.evaluate(key, population, state.problem, core.TEST).tests
        assert tests is not None  # or it would not have been trained
        return tests

    def run_tests(state: TrainState) -> Tests:
        parts: list[Tests] = []
        while (done := sum(part.returns.size for part in parts)) < num_episodes:
            parts.append(jax.device_get(test(jax.random.fold_in(key, done), state)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_episodes], *parts)

    tested = run_tests(state)
    zero = with_zero_mean(strategy, state)
    return EvaluationResult(
        generation=generation,
        **summarize(tested),
        return_min=float(tested.returns.min()),
        return_max=float(tested.returns.max()),
        floor_mean=summarize(run_tests(zero))["return_mean"],
    )
