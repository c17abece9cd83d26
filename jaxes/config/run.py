"""The config of a run, checked by pydantic models.

The models are generated from the signatures of the factories (`jaxes.environments.brax`,
`jaxes.problems.policy_search`, `jaxes.policies.mlp`, `jaxes.cem`, `jaxes.train`, ...), so that
every option and default stands in one place.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model

from jaxes import environments
from jaxes.checks import check
from jaxes.config import parts, tasks
from jaxes.config.files import ConfigError, config_of_run, read
from jaxes.config.plan import is_plan_run
from jaxes.config.plan import load as load_plan
from jaxes.config.sections import Checked, Section, section_of
from jaxes.core import Problem, Strategy
from jaxes.environments import Environment
from jaxes.policies import POLICIES
from jaxes.policy_directory import LoadedPolicy, is_policy, load_policy
from jaxes.problems import PROBLEMS, many, policy_search
from jaxes.training.evaluate import Choice, evaluate_run
from jaxes.training.learn import evaluate_learned
from jaxes.training.loaded import evaluate_policy
from jaxes.training.run import RunResult
from jaxes.training.schedule import Schedule
from jaxes.training.shell import check_settings
from jaxes.training.start import path_of
from jaxes.training.train import train


class Setup(NamedTuple):
    """What a config describes: the arguments of `jaxes.train`."""

    problem: Problem
    strategy: Strategy
    training: dict[str, Any]


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> "Config":
    """Reads a config and applies `key.path=value` overrides, each value in YAML's notation.

    Raises:
      ConfigError: the file is missing or no config, or a field or value is not allowed.
    """
    data = found_from(path, read(path, overrides))
    if "sweep" in data:
        raise ConfigError(
            f"sweep: {path} describes a sweep: run it with `jaxes sweep`, or take one of its "
            "trials, such as trials/0000 in its directory"
        )
    if "planner" in data:
        raise ConfigError(f"planner: {path} describes planning: run it with `jaxes plan`")
    return Config(data)


def found_from(config: str | Path, data: dict[str, Any]) -> dict[str, Any]:
    """The same, with `training.mean` as a path that is found from anywhere: from here, or, if it is
    not there, from the folder of the config."""
    training = data.get("training")
    if isinstance(training, dict) and isinstance(mean := training.get("mean"), str):
        beside = Path(config).parent / mean
        there = beside.exists() and not Path(mean).exists()
        training["mean"] = path_of(beside if there else mean)
    return data


class Config(Checked):
    """A valid config."""

    def __init__(self, data: dict[str, Any]):
        super().__init__(_config_model(data), data)

    def build(self, problem: Problem | None = None) -> Setup:
        """Makes the problem, unless it is given, and the strategy. Nothing is compiled.

        Raises:
          ConfigError: a factory refuses a value.
        """
        model = self._model
        strategy = parts.make_strategy(model.strategy)
        problem = problem or self._build_problem()
        training = parts.arguments(model.training)
        with parts.in_section("training"):
            check_settings(Schedule.of(training), training["seed"], training["loggers"])
        return Setup(problem, strategy, training)

    def _build_problem(self) -> Problem:
        model = self._model
        if not hasattr(model, "environment"):
            with parts.in_section("problem"):
                return PROBLEMS[model.problem.name](**parts.arguments(model.problem))
        made = tasks.make_environments(model.environment)
        with parts.in_section("policy"):
            policy = POLICIES[model.policy.name](**parts.arguments(model.policy))
        if isinstance(made, dict):
            with parts.in_section("problem"):
                return many(made, policy, **parts.arguments(model.problem))
        with parts.in_section("problem", made.name):
            return policy_search(made, policy, **parts.arguments(model.problem))


def evaluate(
    run_dir: str | os.PathLike,
    problem: Problem | None = None,
    strategy: Strategy | None = None,
    *,
    num_episodes: int = 100,
    seed: int = 0,
    checkpoint: Choice = "latest",
) -> RunResult:
    """Tests a run's checkpoint, or a policy that has left its run, and the zero policy beside it.

    Args:
      run_dir: the run, a trial of a sweep, or what `jaxes.export` made of one; it is only read.
      problem: the run's problem; needed only where the run has no config. Of a policy directory,
        a problem in whose environment it acts; needed only where no config can name that.
      strategy: the run's strategy; likewise.
      num_episodes: at least 1; they never coincide with those of the run's training.
      seed: of the episodes.
      checkpoint: `latest`, `best` (by the test that training made at that generation), or its
        generation.

    Raises:
      ValueError: it is no run, has no such checkpoint, or is one of another problem or strategy.

    Example:
      >>> jaxes.evaluate("runs/hopper", num_episodes=1000).return_mean
    """
    if is_policy(run_dir):
        check("checkpoint", checkpoint, checkpoint == "latest", "latest: a policy has no other one")
        policy = load_policy(run_dir)
        one = problem is None or problem.tasks is None
        check("problem", problem and list(problem.tasks or ()), one, "of one environment, not many")
        acts_in = problem.environment if problem else environments_of(policy)
        return evaluate_policy(policy, acts_in, num_episodes=num_episodes, seed=seed)
    if problem is None and strategy is None and is_plan_run(Path(run_dir)):
        return evaluate_learned(
            *load_plan(config_of_run(Path(run_dir))).build(),
            Path(run_dir),
            num_episodes=num_episodes,
            seed=seed,
            checkpoint=checkpoint,
        )
    return evaluate_run(
        *parts_of_run(Path(run_dir), problem, strategy),
        Path(run_dir),
        num_episodes=num_episodes,
        seed=seed,
        checkpoint=checkpoint,
    )


def parts_of_run(
    run_dir: Path, problem: Problem | None, strategy: Strategy | None
) -> tuple[Problem, Strategy]:
    """The problem and the strategy of a run; those that are not given are what its config says."""
    if problem is None or strategy is None:
        setup = load(config_of_run(run_dir)).build(problem)
        problem, strategy = setup.problem, strategy or setup.strategy
    return problem, strategy


def environments_of(policy: LoadedPolicy) -> Environment | dict[str, Environment]:
    """The one that a policy's directory names, or its tasks'.

    Raises:
      ConfigError: it names none that can be made here.
    """
    name, spec = policy.about["environment_name"], policy.about["environment"]
    if spec is None:
        raise ConfigError(
            f"environment: the policy acts in {name!r}, which no config can name: give a problem "
            "with it, from Python, or act in a loop of your own (jaxes.load_policy)"
        )
    return tasks.environments_of(spec)


# The models, from the factories' signatures.


def _config_model(data: dict[str, Any]) -> type[Section]:
    """The model for the environment, problem, policy and strategy that a config names.

    Raises:
      ConfigError: a name is missing or unknown, or a section stands beside one that excludes it.
    """
    _refuse_old_form(data)
    sections = _policy_search(data) if "environment" in data else _plain_problem(data)
    strategy = parts.strategy_section(data)
    training = section_of(train, omit=("run_dir", "resume", "config"))
    return create_model(
        "config", __base__=Section, **sections, strategy=(strategy, ...), training=(training, ...)
    )


def _policy_search(data: dict[str, Any]) -> dict[str, Any]:
    """The sections `environment`, `problem` and `policy`."""
    environment = tasks.environments_section(data)
    problem = data.setdefault("problem", {})
    if isinstance(problem, dict) and "name" in problem:
        raise ConfigError(
            f"problem.name: stands for a problem without an environment, got {problem['name']!r} "
            f"beside environment.name: {data['environment']['name']}"
        )
    policy = parts.named_section(data, "policy", POLICIES, default="mlp")
    kinds = {"environment": environment, "problem": tasks.problem_section(data), "policy": policy}
    _refuse_elsewhere(data, kinds)
    return {name: (kind, ...) for name, kind in kinds.items()}


def _refuse_elsewhere(data: dict[str, Any], kinds: dict[str, type[Section]]) -> None:
    """Says where a field belongs that stands in another section."""
    for section in kinds.keys() & data.keys():
        given = data[section] if isinstance(data[section], dict) else {}
        for field in given.keys() - kinds[section].model_fields.keys():
            for other, kind in kinds.items():
                if field in kind.model_fields:
                    raise ConfigError(f"{section}.{field}: is a field of {other}: move it there")


def _plain_problem(data: dict[str, Any]) -> dict[str, Any]:
    """The section `problem`, of one that has no environment and policy."""
    problem = data.get("problem", {})
    if isinstance(problem, dict) and "name" not in problem:
        raise ConfigError(
            "environment: a section with the field `name` is required, or problem.name for a "
            f"problem without one; allowed: {', '.join(environments.names())}, and for "
            f"problem.name: {', '.join(PROBLEMS)}"
        )
    model = parts.named_section(data, "problem", PROBLEMS)
    if "policy" in data:
        raise ConfigError(f"policy: the problem {problem['name']!r} takes no policy")
    return {"problem": (model, ...)}


def _refuse_old_form(data: dict[str, Any]) -> None:
    """Says what is called otherwise since environments have a section of their own."""
    problem = data.get("problem")
    if not isinstance(problem, dict):
        return
    name = problem.get("name")
    if isinstance(name, str) and name in environments.names():
        raise ConfigError(
            f"problem.name: {name!r} is an environment now: write `environment: {{name: {name}, "
            f"env_name: {problem.get('env_name', '...')}}}`, with what else says which environment "
            "it is, and leave the rest under `problem`, where alive_bonus is called alive_penalty; "
            "policy, strategy and training are as they were"
        )
    if "alive_bonus" in problem:
        raise ConfigError("problem.alive_bonus: is called problem.alive_penalty now")
