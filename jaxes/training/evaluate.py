"""Tests of a saved run's policy on fresh episodes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import Array

from jaxes import core, parallel
from jaxes.checks import check, check_count, check_seed
from jaxes.core import AnyTests, Population, Problem, Strategy, TrainHParams, TrainState
from jaxes.training.batch import keys_of, with_zero_mean
from jaxes.training.identity import read_identity
from jaxes.training.metrics import read_rows
from jaxes.training.program import check_tests
from jaxes.training.run import Run, RunResult, Trial
from jaxes.training.schedule import best_of
from jaxes.training.tested import score_of

Choice = int | Literal["latest", "best"]


@jax.disable_jit(False)  # as in `train`
def evaluate_run(
    problem: Problem,
    strategy: Strategy,
    run_dir: Path,
    *,
    num_episodes: int = 100,
    seed: int = 0,
    checkpoint: Choice = "latest",
) -> RunResult:
    """Tests the mean policy of a checkpoint, and the zero policy beside it.

    Args:
      problem: the run's problem.
      strategy: the run's strategy.
      run_dir: the run; it is only read.
      num_episodes: at least 1, of each name where tests are told apart; they never coincide with
        those of the run's training.
      seed: of the episodes.
      checkpoint: `latest`, `best` (by the test that training made at that generation), or its
        generation.

    Raises:
      ValueError: the run has no such checkpoint, or one of another problem or strategy.
    """
    check_count("num_episodes", num_episodes)
    check_seed("seed", seed)
    return tested(
        run_dir,
        start_of(problem, strategy),
        tester(problem, strategy),
        with_zero_mean,
        TrainHParams(strategy.hparams, problem.hparams),
        num_episodes=num_episodes,
        seed=seed,
        checkpoint=checkpoint,
    )


def start_of(problem: Problem, strategy: Strategy) -> TrainState:
    """A state like those of its runs."""
    return jax.jit(lambda key: core.init(key, strategy, problem))(jax.random.key(0))


def tester(problem: Problem, strategy: Strategy) -> Callable[[Array, TrainState], AnyTests]:
    """What tests the mean."""

    def test(key: Array, state: TrainState) -> AnyTests:
        population = Population(strategy.ask, key, state.strategy, strategy.population_size)
        return check_tests(problem.evaluate(key, population, state.problem, core.TEST).tests)

    return jax.jit(parallel.replicated(test))


def tested(
    run_dir: Path,
    template: Any,
    test: Callable[[Array, Any], AnyTests],
    standing: Callable[[Any], Any],
    hparams: TrainHParams,
    *,
    num_episodes: int,
    seed: int,
    checkpoint: Choice,
) -> RunResult:
    """What a checkpoint of a run comes to in fresh episodes.

    Args:
      template: a state like the saved one.
      test: `(key, state) -> tests`, of some episodes.
      standing: from the state to the one whose tests are of the zero policy.
      hparams: of the run.
    """
    train_seed: Any = read_identity(run_dir).get("seed")
    check_seed("run: its seed", train_seed)
    generation, state = restored(run_dir, template, checkpoint)
    run = Run(Trial(0, train_seed, {}, hparams), run_dir)
    run.read(generation)
    return outcome(run, state, test, standing, num_episodes=num_episodes, seed=seed)


def outcome(
    run: Run,
    state: Any,
    test: Callable[[Array, Any], AnyTests],
    standing: Callable[[Any], Any],
    *,
    num_episodes: int,
    seed: int,
) -> RunResult:
    """What the run comes to in this state, by as many fresh episodes of this seed."""
    _, _, test_key = keys_of(run.trial.seed)
    key = jax.random.fold_in(test_key, seed)

    def run_tests(state: Any) -> AnyTests:
        parts: list[AnyTests] = []
        while (count := sum(map(_num_episodes, parts))) < num_episodes:
            parts.append(jax.device_get(test(jax.random.fold_in(key, count), state)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_episodes], *parts)

    return run.result(state, run_tests(state), run_tests(standing(state)))


def _num_episodes(tests: AnyTests) -> int:
    """Of the name that has the fewest."""
    return min(np.size(leaf) for leaf in jax.tree.leaves(tests))


def restored(run_dir: Path, template: Any, checkpoint: Choice) -> tuple[int, Any]:
    """A checkpoint of a run, as a state like `template`, and its generation.

    Raises:
      ValueError: there is no such one, it is damaged, or one of another problem or strategy.
    """
    from jaxes.training.checkpoint import Checkpoints, as_state

    checkpoints = Checkpoints(run_dir / "checkpoints", read_only=True)
    generation = chosen(checkpoint, checkpoints.generations(), run_dir)
    newest = checkpoints.newest() if checkpoint == "latest" else None
    generation, leaves = newest or (generation, checkpoints.leaves(generation))
    return generation, as_state(generation, leaves, template)


def chosen(checkpoint: Choice, saved: Sequence[int], run_dir: Path) -> int:
    """The generation of the checkpoint that is asked for.

    Raises:
      ValueError: there is no such one.
    """
    if not saved:
        raise ValueError(f"run: {run_dir} has no checkpoint yet")
    if checkpoint == "latest":
        return saved[-1]
    if checkpoint == "best":
        rows, _ = read_rows(run_dir / "metrics.jsonl")
        scores = {row["generation"]: score_of(row) for row in rows if "test/return_mean" in row}
        for best in best_of(saved, scores):
            return best
        raise ValueError(f"checkpoint: no generation that {run_dir} saved was tested")
    known = checkpoint in saved and not isinstance(checkpoint, bool)
    some = ", ".join(map(str, saved if len(saved) <= 12 else [*saved[:5], "...", *saved[-5:]]))
    check("checkpoint", checkpoint, known, f"best, latest, or one of {some}")
    return int(checkpoint)
