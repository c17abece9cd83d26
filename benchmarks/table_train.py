"""Trains all seeds of a task and strategy as one sweep, until each has spent its budget."""

import itertools
import time
from functools import partial
from pathlib import Path

from table_runs import keep_final, said_of, unfinished
from table_settings import (
    FINAL_EPISODES,
    FINAL_SEED,
    SETTINGS,
    STEPS_BETWEEN_TESTS,
    TASKS,
    problem_of,
    strategy_of,
)

import jaxes
from jaxes.core import TrainHParams
from jaxes.training.batch import with_zero_mean
from jaxes.training.directory import trial_dir
from jaxes.training.evaluate import start_of, tested, tester
from jaxes.training.identity import check_same, config_of, read_run
from jaxes.training.metrics import Row, read_rows

SHORTEST = 10  # steps of an episode: were all shorter, generations would end before the budget


class Budget:
    """A callback of sweeps: a trial ends at its first test after so many steps of training, so that
    where it ends depends on its seed alone."""

    def __init__(self, run_dir: Path, steps: int):
        self.run_dir, self.steps = run_dir, steps
        self._spent: dict[int, list[float]] = {}
        self._read: dict[int, int] = {}
        self.started = time.monotonic()

    def __call__(self, row: Row, state: jaxes.TrainState) -> bool:
        if "test/return_mean" not in row:
            return False
        # Not the last that is written: a sweep that goes on repeats generations.
        spent = self._after(row["trial"])[row["generation"]]
        seconds = time.monotonic() - self.started
        said = f"{seconds:7.0f} s  trial {row['trial']}  {spent:12,.0f} steps"
        print(f"{said}  return {row['test/return_mean']}", flush=True)
        return spent >= self.steps

    def _after(self, trial: int) -> list[float]:
        """The steps of a trial after each of its generations, so far."""
        path = trial_dir(self.run_dir, trial) / "metrics.jsonl"
        rows, self._read[trial] = read_rows(path, self._read.get(trial, 0))
        spent = self._spent.setdefault(trial, [0.0])
        for row in rows:
            spent.append(spent[-1] + row["rollout/env_steps"])
        return spent


def sweep(
    run_dir: Path,
    problem: jaxes.Problem,
    strategy: jaxes.Strategy,
    grid: dict[str, list[float]] | None = None,
    *,
    steps: int,
    seeds: int,
    seed: int = 0,
) -> jaxes.SweepResult:
    """Trains until each trial has spent its budget; goes on with what is there."""
    print(f"{run_dir}: tracing and compiling", flush=True)
    jobs = strategy.population_size * problem.episodes.num_episodes
    test_every = max(1, STEPS_BETWEEN_TESTS // (jobs * problem.episodes.episode_length))
    return jaxes.sweep(
        problem,
        strategy,
        grid,
        num_seeds=seeds,
        seed=seed,
        num_generations=-(-steps // (jobs * SHORTEST)),
        test_every=test_every,
        checkpoint_every=4 * test_every,
        keep_checkpoints=2,
        run_dir=run_dir,
        resume=True,
        callback=Budget(run_dir, steps),
    )


def check_settings(
    run_dir: Path,
    problem: jaxes.Problem,
    strategy: jaxes.Strategy,
    seeds: int,
    grid: dict[str, list[float]] | None = None,
) -> None:
    """Of a sweep that is finished, and would be left as it is.

    Raises:
      SystemExit: it has other settings, another grid or other seeds.
    """
    numbers = TrainHParams(strategy.hparams, problem.hparams)
    given = config_of(problem, strategy, numbers, {})
    known = read_run(trial_dir(run_dir, 0))["identity"]["config"]
    swept = [values for _, values in read_run(run_dir)["identity"]["sweep"]]
    axes = grid or {}
    wanted = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    name = given["strategy"]["name"]
    given["strategy"][name] |= swept[0]
    try:
        check_same(f"the run in {run_dir}", known, {part: given[part] for part in known})
        if len(swept) != seeds * len(wanted) or any(values not in wanted for values in swept):
            raise ValueError(f"grid, seeds: the run in {run_dir} has others")
    except ValueError as error:
        raise SystemExit(f"{error}: choose another --runs") from error


def train(task: str, name: str, run_dir: Path, steps: int, seeds: int) -> None:
    """All seeds of a task and strategy, and the tests at their ends."""
    trials = [trial_dir(run_dir, i) for i in range(seeds)]
    settings, penalty = SETTINGS[task][name], TASKS[task].alive_penalty
    problem_for = partial(problem_of, task, settings.policy, alive_penalty=penalty)
    strategy = strategy_of(name, settings)
    if not unfinished(trials, steps):
        check_settings(run_dir, problem_for(), strategy, seeds)
        print(f"{run_dir}: finished already")
        return
    result = sweep(run_dir, problem_for(), strategy, steps=steps, seeds=seeds)
    problem = problem_for(test_episodes=FINAL_EPISODES)
    test, template = tester(problem, strategy), start_of(problem, strategy)
    for trial in trials:
        final = tested(
            trial,
            template,
            test,
            with_zero_mean,
            TrainHParams(strategy.hparams, problem.hparams),
            num_episodes=FINAL_EPISODES,
            seed=FINAL_SEED,
            checkpoint="latest",
        )
        keep_final(trial, steps, final, result.compile_seconds / seeds)
        print(f"{trial}: {said_of(final)}", flush=True)
