"""Parts that runs of several kinds have: environments and strategies in sections of a config."""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, create_model

from jaxes import environments
from jaxes.config.files import ConfigError, suggest
from jaxes.config.sections import Section, section_of
from jaxes.core import Strategy
from jaxes.environments import Environment
from jaxes.strategies import STRATEGIES

# Of fields that another section's factory may refuse: it learns more when it sees the whole.
OWNERS = {"population_size": "strategy", "env_name": "environment", "tasks": "environment"}
SECTIONS = ("environment", "policy")  # which are objects to the factories that get them


def environment_section(
    data: dict[str, Any], section: str = "environment", where: str = "", **extra: Any
) -> type[Section]:
    """The model of a section that is an environment, which stands in the section `where`; `extra`
    fields are beside those of its factory."""
    factory = environments.find(name_of(data, section, environments.names(), where))
    return section_of(factory, name=(str, ...), **extra)


def make_environment(
    section: Any, where: str = "environment", omit: Collection[str] = ()
) -> Environment:
    """The environment of a valid section, which messages call `where`, without these fields.

    Raises:
      ConfigError: its factory refuses a value.
    """
    given = {name: value for name, value in arguments(section).items() if name not in omit}
    with in_section(where):
        return environments.find(section.name)(**given)


def strategy_section(data: dict[str, Any], where: str = "") -> type[Section]:
    """The model of the section `strategy` in this data, which messages call the section `where`."""
    chosen = name_of(data, "strategy", STRATEGIES, where)
    settings: dict[str, Any] = {}
    for name, factory in STRATEGIES.items():
        model = section_of(factory, omit=("population_size",))
        settings[name] = (model, model()) if name == chosen else (model | None, None)
    return create_model(
        "strategy",
        __base__=Section,
        name=(str, ...),
        population_size=(int, ...),
        **settings,
    )


def make_strategy(section: Any, where: str = "") -> Strategy:
    """The strategy of a valid section, which stands in the section `where`.

    Raises:
      ConfigError: its factory refuses a value.
    """
    name = section.name
    with in_section(f"{where}strategy.{name}", where=where):
        return STRATEGIES[name](section.population_size, **arguments(getattr(section, name)))


def named_section(
    data: dict[str, Any],
    section: str,
    factories: Mapping[str, Callable],
    default: str = "",
    omit: tuple[str, ...] = (),
    where: str = "",
) -> type[Section]:
    """The model of the factory that a section chooses by its field `name`."""
    if default and isinstance(data.setdefault(section, {}), dict):
        data[section].setdefault("name", default)
    return section_of(factories[name_of(data, section, factories, where)], omit, name=(str, ...))


def name_of(data: dict[str, Any], section: str, allowed: Collection[str], where: str = "") -> str:
    """The field `name` of a section, which stands in the section `where`.

    Raises:
      ConfigError: there is none, or none of those that are allowed.
    """
    content = data.get(section)
    given = f", got {content!r}" if section in data else ""
    section = f"{where}{section}"
    if not isinstance(content, dict):
        raise ConfigError(f"{section}: a section with the field `name` is required{given}")
    name = content.get("name")
    if name is None:
        raise ConfigError(f"{section}.name: required{suggest('', list(allowed))}")
    if not isinstance(name, str) or name not in allowed:
        raise ConfigError(f"{section}.name: unknown value {name!r}{suggest(name, list(allowed))}")
    return name


def arguments(section: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in section if name != "name"}


@contextlib.contextmanager
def in_section(section: str, environment: str = "environment", where: str = "") -> Iterator[None]:
    """Turns a factory's ValueError, which begins with a field, or the name of its environment, into
    a ConfigError with its path; `where` is the section that a strategy stands in."""
    try:
        yield
    except ValueError as error:
        field = re.split(r"\W", str(error))[0]
        if field in SECTIONS:
            raise ConfigError(str(error)) from error
        if str(error).startswith(f"{environment}: "):
            raise ConfigError(f"environment: {error}") from error
        alien = field in OWNERS and not section.startswith("environment")
        owner = f"{where}{OWNERS[field]}" if alien else section
        raise ConfigError(f"{owner}.{error}") from error
