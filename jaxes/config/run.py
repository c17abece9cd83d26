"""The config of a run, checked by pydantic models.

The models are generated from the signatures of the factories (`jaxes.environments.brax`,
`jaxes.problems.policy_search`, `jaxes.policies.mlp`, `jaxes.cem`, `jaxes.train`, ...), so that
every option and default stands in one place.
"""

import contextlib
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from jaxes import environments
from jaxes.config.files import ConfigError, config_of_run, read, suggest
from jaxes.core import Problem, Strategy
from jaxes.policies import POLICIES
from jaxes.problems import PROBLEMS, policy_search
from jaxes.strategies import STRATEGIES
from jaxes.training.evaluate import evaluate_run
from jaxes.training.run import RunResult
from jaxes.training.schedule import Schedule
from jaxes.training.train import check_settings, train

# Of fields that another section's factory may refuse: it learns more when it sees the whole.
OWNERS = {"population_size": "strategy", "env_name": "environment"}


class Section(BaseModel):
    """A section of a config: no unknown fields, no coercion (`true` is no number), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


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
    data = read(path, overrides)
    if "sweep" in data:
        raise ConfigError(
            f"sweep: {path} describes a sweep: run it with `jaxes sweep`, or take one of its "
            "trials, such as trials/0000 in its directory"
        )
    return Config(data)


class Config:
    """A valid config.

    Attributes:
      resolved: the whole of it as plain data, every default of what it uses filled in.
    """

    def __init__(self, data: dict[str, Any]):
        model = _config_model(data)
        self._model: Any = validate(model, data)
        self.resolved: dict[str, Any] = self._model.model_dump(mode="json", exclude_none=True)

    def build(self, problem: Problem | None = None) -> Setup:
        """Makes the problem, unless it is given, and the strategy. Nothing is compiled.

        Raises:
          ConfigError: a factory refuses a value.
        """
        model = self._model
        name = model.strategy.name
        with _in_section(f"strategy.{name}"):
            strategy = STRATEGIES[name](
                model.strategy.population_size, **_arguments(getattr(model.strategy, name))
            )
        problem = problem or self._build_problem()
        training = _arguments(model.training)
        with _in_section("training"):
            check_settings(Schedule.of(training), training["seed"], training["loggers"])
        return Setup(problem, strategy, training)

    def _build_problem(self) -> Problem:
        model = self._model
        if not hasattr(model, "environment"):
            with _in_section("problem"):
                return PROBLEMS[model.problem.name](**_arguments(model.problem))
        with _in_section("environment"):
            make = environments.find(model.environment.name)
            environment = make(**_arguments(model.environment))
        with _in_section("policy"):
            policy = POLICIES[model.policy.name](**_arguments(model.policy))
        with _in_section("problem"):
            return policy_search(environment, policy, **_arguments(model.problem))


def evaluate(
    run_dir: str | os.PathLike,
    problem: Problem | None = None,
    strategy: Strategy | None = None,
    *,
    num_episodes: int = 100,
    seed: int = 0,
) -> RunResult:
    """Tests the policy of a run's latest checkpoint, and the zero policy beside it.

    Args:
      run_dir: the run, or a trial of a sweep; it is only read.
      problem: the run's problem; needed only where the run has no config.
      strategy: the run's strategy; likewise.
      num_episodes: at least 1; they never coincide with those of the run's training.
      seed: of the episodes.

    Raises:
      ValueError: it is no run, has no checkpoint, or is one of another problem or strategy.

    Example:
      >>> jaxes.evaluate("runs/hopper", num_episodes=1000).return_mean
    """
    if problem is None or strategy is None:
        setup = load(config_of_run(Path(run_dir))).build(problem)
        problem, strategy = setup.problem, strategy or setup.strategy
    return evaluate_run(problem, strategy, Path(run_dir), num_episodes=num_episodes, seed=seed)


# The models, from the factories' signatures.


def _config_model(data: dict[str, Any]) -> type[Section]:
    """The model for the environment, problem, policy and strategy that a config names.

    Raises:
      ConfigError: a name is missing or unknown, or a section stands beside one that excludes it.
    """
    _refuse_old_form(data)
    sections = _policy_search(data) if "environment" in data else _plain_problem(data)
    chosen = _name(data, "strategy", STRATEGIES)
    settings: dict[str, Any] = {}
    for name, factory in STRATEGIES.items():
        model = _section(factory, omit=("population_size",))
        settings[name] = (model, model()) if name == chosen else (model | None, None)
    strategy = create_model(
        "strategy",
        __base__=Section,
        name=(str, ...),
        population_size=(int, ...),
        **settings,
    )
    training = _section(train, omit=("run_dir", "resume", "config"))
    return create_model(
        "config", __base__=Section, **sections, strategy=(strategy, ...), training=(training, ...)
    )


def _policy_search(data: dict[str, Any]) -> dict[str, Any]:
    """The sections `environment`, `problem` and `policy`."""
    names = {name: name for name in environments.names()}
    environment = _section(environments.find(_name(data, "environment", names)), name=(str, ...))
    problem = data.setdefault("problem", {})
    if isinstance(problem, dict) and "name" in problem:
        raise ConfigError(
            f"problem.name: stands for a problem without an environment, got {problem['name']!r} "
            f"beside environment.name: {data['environment']['name']}"
        )
    policy = _named_section(data, "policy", POLICIES, default="mlp")
    kinds = {"environment": environment, "problem": _section(policy_search), "policy": policy}
    return {name: (kind, ...) for name, kind in kinds.items()}


def _plain_problem(data: dict[str, Any]) -> dict[str, Any]:
    """The section `problem`, of one that has no environment and policy."""
    problem = _named_section(data, "problem", PROBLEMS)
    if "policy" in data:
        raise ConfigError(f"policy: the problem {data['problem']['name']!r} takes no policy")
    return {"problem": (problem, ...)}


def _refuse_old_form(data: dict[str, Any]) -> None:
    """Says what is called otherwise since environments have a section of their own."""
    problem = data.get("problem")
    if not isinstance(problem, dict):
        return
    name = problem.get("name")
    if isinstance(name, str) and name in environments.names():
        raise ConfigError(
            f"problem.name: {name!r} is an environment now: write `environment: {{name: {name}, "
            "env_name: ..., backend: ...}` and leave the rest under `problem`, where alive_bonus "
            "is called alive_penalty; policy, strategy and training are as they were"
        )
    if "alive_bonus" in problem:
        raise ConfigError("problem.alive_bonus: is called problem.alive_penalty now")


def _section(factory: Callable, omit: tuple[str, ...] = (), **extra: Any) -> type[Section]:
    """A model with a field for each argument of `factory` that a config can express."""
    hints = typing.get_type_hints(factory)
    fields: dict[str, Any] = dict(extra)
    for name, parameter in inspect.signature(factory).parameters.items():
        kind = _settings_type(hints.get(name))
        if name not in omit and kind is not None:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (kind, default)
    return create_model(factory.__name__, __base__=Section, **fields)


def _named_section(
    data: dict[str, Any], section: str, factories: Mapping[str, Callable], default: str = ""
) -> type[Section]:
    """The model of the factory that a section chooses by its field `name`."""
    if default and section not in data:
        data[section] = {"name": default}
    return _section(factories[_name(data, section, factories)], name=(str, ...))


def _name(data: dict[str, Any], section: str, allowed: Mapping[str, Any]) -> str:
    content = data.get(section)
    if not isinstance(content, dict):
        given = f", got {content!r}" if section in data else ""
        raise ConfigError(f"{section}: a section with the field `name` is required{given}")
    name = content.get("name")
    if name is None:
        raise ConfigError(f"{section}.name: required{suggest('', list(allowed))}")
    if not isinstance(name, str) or name not in allowed:
        raise ConfigError(f"{section}.name: unknown value {name!r}{suggest(name, list(allowed))}")
    return name


def _settings_type(annotation: Any) -> Any:
    """The part of an annotation that a config can express; None if there is none."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        parts = [part for part in map(_settings_type, get_args(annotation)) if part is not None]
        useful = [part for part in parts if part is not type(None)]
        return Union[tuple(parts)] if useful else None  # noqa: UP007
    if annotation in (bool, int, float, str, type(None)) or origin in (tuple, Literal):
        return annotation
    if origin in (dict, Mapping):
        return dict[str, Any]
    return None


def _arguments(section: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in section if name != "name"}


@contextlib.contextmanager
def _in_section(section: str) -> Iterator[None]:
    """Turns a factory's ValueError, which begins with a field, into a ConfigError with its path."""
    try:
        yield
    except ValueError as error:
        field = str(error).split(" ")[0]
        owner = OWNERS.get(field, section)
        raise ConfigError(f"{owner}.{error}") from error


def validate(model: type[Section], data: dict[str, Any], where: str = "") -> Any:
    """The data as that model; `where` stands before the names of its fields.

    Raises:
      ConfigError: a field or value is not allowed; the message names it.
    """
    try:
        text = json.dumps(data)
    except (TypeError, ValueError) as error:  # YAML knows sets and cycles, JSON does not
        raise ConfigError(f"config: {error}") from error
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        said = (where + _explain(each, model) for each in error.errors())
        raise ConfigError("; ".join(said)) from error


def _explain(error: Any, model: Any) -> str:
    """One clause for one of pydantic's errors: the field, the value, what is allowed."""
    location = [str(part) for part in error["loc"]]
    field, value = ".".join(location), error.get("input")
    match error["type"]:
        case "extra_forbidden":
            allowed = list(_model_at(model, location[:-1]).model_fields)
            return f"{field}: unknown field{suggest(location[-1], allowed)}"
        case "missing":
            return f"{field}: required"
        case "model_type" | "model_attributes_type":
            return f"{field}: expected a section, got {value!r}"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{field}: unknown value {value!r}{suggest(value, allowed)}"
    return f"{field}: {error['msg'][0].lower()}{error['msg'][1:]}, got {value!r}"


def _model_at(model: Any, location: list[str]) -> Any:
    for part in location:
        if part not in model.model_fields:
            continue  # a key of a dict of sections
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
