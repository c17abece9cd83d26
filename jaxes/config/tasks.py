"""The section `environment` of a policy search: one environment, randomized perhaps, or `many`."""

from collections.abc import Mapping
from typing import Any

from pydantic import create_model

from jaxes import environments
from jaxes.config import parts
from jaxes.config.files import ConfigError
from jaxes.config.sections import Section, section_of, validate
from jaxes.environments import Environment
from jaxes.environments.randomized import randomized
from jaxes.problems import many, policy_search
from jaxes.problems.many import check_task_name

MANY = "many"
OPTIONAL = (dict[str, Any] | None, None)
RANDOMIZED: dict[str, Any] = {"randomize": OPTIONAL, "test_randomize": OPTIONAL}


def environments_section(data: dict[str, Any]) -> type[Section]:
    """The model of the section `environment`."""
    if parts.name_of(data, "environment", [*environments.names(), MANY]) != MANY:
        return parts.environment_section(data, **RANDOMIZED)
    tasks = data["environment"].get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        got = f", got {tasks!r}" if "tasks" in data["environment"] else ""
        raise ConfigError(f"environment.tasks: a section of environments by name is required{got}")
    for name in map(str, tasks):
        with parts.in_section("environment"):
            check_task_name("tasks", name)
    models: dict[str, Any] = {
        str(name): (parts.environment_section(tasks, name, "environment.tasks.", **RANDOMIZED), ...)
        for name in tasks
    }
    of_tasks = create_model("tasks", __base__=Section, **models)
    return create_model(MANY, __base__=Section, name=(str, ...), tasks=(of_tasks, ...))


def problem_section(data: dict[str, Any]) -> type[Section]:
    """The model of the section `problem` of a search in these environments."""
    one = data["environment"]["name"] != MANY
    return section_of(policy_search) if one else section_of(many, omit=("tasks", "policy"))


def make_environments(section: Any) -> Environment | dict[str, Environment]:
    """The environment of a valid section, or those of its tasks.

    Raises:
      ConfigError: a factory refuses a value.
    """
    if section.name != MANY:
        return _make(section, "environment")
    return {name: _make(one, f"environment.tasks.{name}") for name, one in section.tasks}


def environments_of(spec: Mapping[str, Any]) -> Environment | dict[str, Environment]:
    """The environment of that spec (see `jaxes.specs`), or those of its tasks.

    Raises:
      ConfigError: it is none of those that are installed.
    """
    data = {"environment": dict(spec)}
    model = environments_section(data)
    return make_environments(validate(model, data["environment"], where="environment."))


def _make(section: Any, where: str) -> Environment:
    environment = parts.make_environment(section, where, omit=RANDOMIZED)
    with parts.in_section(where, environment.name):
        return randomized(environment, **{field: getattr(section, field) for field in RANDOMIZED})
