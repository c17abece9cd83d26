"""Configuration: YAML files and `--set`, checked by pydantic models.

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

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from jaxes.checks import near
from jaxes.core import Problem, Strategy
from jaxes.policies import POLICIES
from jaxes.problems import PROBLEMS
from jaxes.strategies import STRATEGIES
from jaxes.training.trainer import check_settings, train


class ConfigError(ValueError):
    """A config that cannot be run; the message names the field, the value and what is allowed."""


class Section(BaseModel):
    """A section of a config: no unknown fields, no coercion (`true` is no number), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Run(NamedTuple):
    """What a config describes: the arguments of `jaxes.train`."""

    problem: Problem
    strategy: Strategy
    training: dict[str, Any]


def bundled() -> list[Path]:
    """The configs that come with jaxes: in the wheel, or in the checkout that it runs from."""
    package = Path(__file__).parents[1]
    directories = [package / "configs", package.parent / "configs"]
    return sorted(path for directory in directories for path in directory.glob("*.yaml"))


def comment(path: Path) -> str:
    """The first line of a config, which is a comment that says what it is."""
    return path.read_text().partition("\n")[0].removeprefix("# ")


def find(name: str) -> Path:
    """The config file of that path, or the bundled one of that name.

    Raises:
      ConfigError: there is neither.
    """
    names = {path.stem: path for path in bundled()}
    if name in names and not Path(name).is_file():
        return names[name]
    if not Path(name).is_file():
        raise ConfigError(
            f"config: no file {name!r}, nor is it bundled{_suggest(name, list(names))}"
        )
    return Path(name)


def of_run(run_dir: Path) -> Path:
    """The resolved config in a run directory.

    Raises:
      ConfigError: there is none.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"run: {run_dir} holds no run of `jaxes train` (no config.yaml in it)")
    return path


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> "Config":
    """Reads a config and applies `key.path=value` overrides, each value in YAML's notation.

    Raises:
      ConfigError: the file is missing or no config, or a field or value is not allowed.
    """
    data = read(path, overrides)
    if "sweep" in data:
        raise ConfigError(f"sweep: {path} describes a sweep: run it with `jaxes sweep`")
    return Config(data)


def read(path: str | Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sections of a config file, overrides applied, as plain data that is not yet checked.

    Raises:
      ConfigError: the file is missing or no config.
    """
    try:
        data = yaml.load(Path(path).read_text(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not a config: expected sections, such as problem and strategy")
    for override in overrides:
        _set(data, override)
    return data


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
            check_settings(**training)
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
    hints = typing.get_type_hints(factory)
    fields: dict[str, Any] = dict(extra)
    for name, parameter in inspect.signature(factory).parameters.items():
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
        raise ConfigError(f"{section}.name: required{_suggest('', list(allowed))}")
    if not isinstance(name, str) or name not in allowed:
        raise ConfigError(f"{section}.name: unknown value {name!r}{_suggest(name, list(allowed))}")
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


# Reading, and saying what is wrong.


def validate(model: type[Section], data: dict[str, Any]) -> Any:
    """The data as that model.

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
        raise ConfigError("; ".join(_explain(e, model) for e in error.errors())) from error


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number and 2026-11-23 a string."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        letter: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _set(data: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not all(path.split(".")):
        raise ConfigError(f"--set {override}: expected key.path=value")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from error
    set_field(data, path, value, f"--set {override}")


def set_field(data: dict[str, Any], path: str, value: Any, what: str) -> None:
    """Sets a field by its path; sections on the way are made.

    Raises:
      ConfigError: something on the way is no section; the message begins with `what`.
    """
    *parents, last = path.split(".")
    for i, parent in enumerate(parents):
        if data.setdefault(parent, {}) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise ConfigError(f"{what}: {'.'.join(parents[: i + 1])} is no section")
    data[last] = value


def _explain(error: Any, model: Any) -> str:
    """One clause for one of pydantic's errors: the field, the value, what is allowed."""
    location = [str(part) for part in error["loc"]]
    field, value = ".".join(location), error.get("input")
    match error["type"]:
        case "extra_forbidden":
            allowed = list(_model_at(model, location[:-1]).model_fields)
            return f"{field}: unknown field{_suggest(location[-1], allowed)}"
        case "missing":
            return f"{field}: required"
        case "model_type" | "model_attributes_type":
            return f"{field}: expected a section, got {value!r}"
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{field}: unknown value {value!r}{_suggest(value, allowed)}"
    return f"{field}: {error['msg'][0].lower()}{error['msg'][1:]}, got {value!r}"


def _model_at(model: Any, location: list[str]) -> Any:
    for part in location:
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _suggest(name: Any, allowed: list[str]) -> str:
    return f"; allowed: {', '.join(allowed)}{near(name, allowed)}"
