"""Environments by name: Brax's, gymnax's, Playground's, and those of installed packages.

A package offers its own by an entry point of the group `jaxes.environments`, a function that
returns an `Environment`; its arguments are the fields of a config's section `environment`:

    [project.entry-points."jaxes.environments"]
    goal = "my_package:goal"
"""

from collections.abc import Callable
from importlib import metadata

from jaxes.checks import brief, check, check_name
from jaxes.environments.base import Environment, EnvState, observation_size
from jaxes.environments.brax_envs import BRAX_ENVIRONMENTS, brax
from jaxes.environments.gymnax_envs import gymnax
from jaxes.environments.playground_envs import playground
from jaxes.specs import recorded

GROUP = "jaxes.environments"
ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "brax": brax,
    "gymnax": gymnax,
    "playground": playground,
}


def names() -> list[str]:
    """Of the environments that `find` knows."""
    installed = sorted(metadata.entry_points(group=GROUP).names)
    return list(dict.fromkeys([*ENVIRONMENTS, *installed]))


def find(name: str) -> Callable[..., Environment]:
    """The factory of that name; an installed package is imported only now.

    Raises:
      ValueError: an unknown name, or an entry point that cannot be loaded or is no function.
    """
    check_name("environment.name", name, names())
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    entry_point = next(iter(metadata.entry_points(group=GROUP, name=name)))
    field = f"environment.name: {name!r}, the entry point {entry_point.value!r},"
    try:
        factory = entry_point.load()
    except Exception as error:
        raise ValueError(f"{field} fails: {brief(error)}") from error
    check(field, factory, callable(factory), "a function that returns an Environment")
    return recorded(name=name)(factory)


__all__ = [
    "BRAX_ENVIRONMENTS",
    "ENVIRONMENTS",
    "EnvState",
    "Environment",
    "brax",
    "find",
    "gymnax",
    "names",
    "observation_size",
    "playground",
]
