"""`jaxes.export`: the policy of a run, as a directory of its own."""

import os
from pathlib import Path

from jaxes.checks import check, check_count
from jaxes.config.files import ConfigError
from jaxes.config.plan import is_plan_run
from jaxes.config.run import parts_of_run
from jaxes.core import Problem, Strategy
from jaxes.files import check_free
from jaxes.policy_directory import LoadedPolicy, load_policy
from jaxes.training.evaluate import Choice, evaluate_run
from jaxes.training.export import check_policy_search, write_policy
from jaxes.training.run import RunResult


def export(
    run: RunResult | str | os.PathLike,
    path: str | os.PathLike,
    problem: Problem | None = None,
    strategy: Strategy | None = None,
    *,
    checkpoint: Choice = "latest",
    num_episodes: int = 100,
) -> LoadedPolicy:
    """Writes the policy of a run into a directory that needs nothing else of it.

    It holds the parameters (safetensors), the statistics that observations are normalized with, a
    StableHLO program for CPU, CUDA and TPU, and what the policy is and came to (JSON); no pickles.
    It is there whole or not at all. See `jaxes.load_policy`.

    Args:
      run: a result, whose tests are told of; or the directory of a run, whose policy is tested.
      path: where nothing is yet.
      problem: the run's problem; needed only where the run has no config.
      strategy: the run's strategy; likewise, of a directory.
      checkpoint: of a directory, as in `jaxes.evaluate`: `latest`, `best`, or a generation.
      num_episodes: fresh episodes of that test, at least 1.

    Returns:
      The policy, read from there.

    Raises:
      ValueError: there is something at `path`, it is no run, or one that has no policy or no such
        checkpoint, or of another problem; nothing is written then.

    Example:
      >>> policy = jaxes.export("runs/hopper", "policies/hopper", checkpoint="best")
      >>> action = policy.act(observation)
    """
    check_count("num_episodes", num_episodes)
    check_free("path", path)
    if isinstance(run, RunResult):
        allowed = "latest of a result, whose state it is; give its run_dir for another"
        check("checkpoint", checkpoint, checkpoint == "latest", allowed)
        problem = problem or _problem_of(run)
        check_policy_search(problem)
        result = run
    else:
        check("run", run, isinstance(run, str | os.PathLike), "a RunResult, or a run's directory")
        run_dir = Path(run)
        if problem is None:
            _refuse_planner(run_dir)
        problem, strategy = parts_of_run(run_dir, problem, strategy)
        check_policy_search(problem)
        result = evaluate_run(
            problem, strategy, run_dir, num_episodes=num_episodes, checkpoint=checkpoint
        )
    write_policy(problem, result, Path(path))
    return load_policy(path)


def _problem_of(result: RunResult) -> Problem:
    """What the config of the run says."""
    if result.run_dir is None:
        raise ValueError("problem must be given for a run without a directory")
    _refuse_planner(result.run_dir)
    return parts_of_run(result.run_dir, None, None)[0]


def _refuse_planner(run_dir: Path) -> None:
    if is_plan_run(run_dir):
        raise ConfigError(f"run: {run_dir} has no policy to export: its actions are planned")
