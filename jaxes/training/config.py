"""Configuration, checked by pydantic models.

The models are generated from the signatures of the factories (`jaxes.cem`, `jaxes.problems.brax`,
`jaxes.policies.mlp`, `jaxes.train`, ...), so that every option and default stands in one place.
"""

import contextlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from jaxes.core import Problem, Strategy
from jaxes.policies import POLICIES
from jaxes.problems import PROBLEMS, policy_search
from jaxes.strategies import STRATEGIES
from jaxes.training.config_files import ConfigError, read, suggest
from jaxes.training.schedule import Schedule
from jaxes.training.trainer import check_settings, train


class Section(BaseModel):
    """A section of a config: no unknown fields, no coercion (`true` is no number), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Run(NamedTuple):
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

    def build(self, problem: Problem | None = None) -> Run:
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
        if problem is None:
            arguments = _arguments(model.problem)
            if hasattr(model, "policy"):
                with _in_section("policy"):
                    arguments["policy"] = POLICIES[model.policy.name](**_arguments(model.policy))
            with _in_section("problem"):
                problem = PROBLEMS[model.problem.name](**arguments)
        training = _arguments(model.training)
        with _in_section("training"):
            check_settings(Schedule.of(training), training["seed"], training["loggers"])
        return Run(problem, strategy, training)


# The models, from the factories' signatures.


def _config_model(data: dict[str, Any]) -> type[Section]:
    """The model for the problem, policy and strategy that a config names.

    Raises:
      ConfigError: a name is missing or unknown, or a policy is given to a problem that takes none.
    """
    problem = _named_section(data, "problem", PROBLEMS)
    sections: dict[str, Any] = {"problem": (problem, ...)}
    problem_name = data["problem"]["name"]
    if "policy" in inspect.signature(PROBLEMS[problem_name]).parameters:
        policy = _named_section(data, "policy", POLICIES, default="mlp")
        sections["policy"] = (policy, ...)
    elif "policy" in data:
        raise ConfigError(f"policy: the problem {problem_name!r} takes no policy")
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


def _section(factory: Callable, omit: tuple[str, ...] = (), **extra: Any) -> type[Section]:
    """A model with a field for each argument of `factory` that a config can express."""
    hints, parameters = typing.get_type_hints(factory), dict(inspect.signature(factory).parameters)
    if "settings" in parameters:  # a short way to policy_search takes its arguments
        hints = typing.get_type_hints(policy_search) | hints
        parameters = dict(inspect.signature(policy_search).parameters) | parameters
    fields: dict[str, Any] = dict(extra)
    for name, parameter in parameters.items():
        kind = _settings_type(hints[name])
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
        owner = "strategy" if field == "population_size" else section
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
