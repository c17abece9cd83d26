"""Environments by name: Brax's, gymnax's, Playground's, three of jaxes' own, and those of
installed packages.

A package offers its own by an entry point of the group `jaxes.environments`, a function that
returns an `Environment`; its arguments are the fields of a config's section `environment`:

    [project.entry-points."jaxes.environments"]
    goal = "my_package:goal"
"""

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

from jaxes.checks import check, check_name, failing
from jaxes.environments.base import Environment, EnvState, observation_size
from jaxes.environments.brax_envs import BRAX_ENVIRONMENTS, brax
from jaxes.environments.cartpole import continuous_cartpole
from jaxes.environments.gymnax_envs import gymnax
from jaxes.environments.pendulum import pendulum
from jaxes.environments.playground_envs import playground
from jaxes.environments.trap import trap
from jaxes.specs import recorded

GROUP = "jaxes.environments"
ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "brax": brax,
    "gymnax": gymnax,
    "playground": playground,
    "continuous_cartpole": continuous_cartpole,
    "pendulum": pendulum,
    "trap": trap,
}


def names() -> list[str]:
    """Of the environments that `find` knows."""
    return [*ENVIRONMENTS, *sorted(_installed())]


@functools.cache  # it looks through all installed packages
def _installed() -> dict[str, metadata.EntryPoint]:
    entry_points = reversed(list(metadata.entry_points(group=GROUP)))  # the first of a name counts
    found = {entry_point.name: entry_point for entry_point in entry_points}
    for name in found.keys() & ENVIRONMENTS.keys():
        taken = found.pop(name)
        warnings.warn(
            f"the environment {name!r} of {taken.value!r} is not used: jaxes has one of that name",
            stacklevel=2,
        )
    return found


def find(name: str) -> Callable[..., Environment]:
    """The factory of that name; an installed package is imported only now.

    Raises:
      ValueError: an unknown name, or an entry point that cannot be loaded or is no function.
    """
    check_name("environment.name", name, names())
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    entry_point = _installed()[name]
    field = f"environment.name: {name!r}, the entry point {entry_point.value!r},"
    with failing(f"{field} fails"):
        factory = entry_point.load()
    check(field, factory, callable(factory), "a function that returns an Environment")

    def names_an_argument(error: Exception) -> bool:
        arguments = inspect.signature(factory).parameters
        return isinstance(error, ValueError) and re.split(r"\W", str(error))[0] in arguments

    @recorded(name=name)
    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> Environment:
        with failing(f"name: {name!r} fails", unless=names_an_argument):
            made = factory(*args, **kwargs)
        check(f"name: what {name!r} returns", made, isinstance(made, Environment), "an Environment")
        return made

    return make


__all__ = [
    "BRAX_ENVIRONMENTS",
    "ENVIRONMENTS",
    "EnvState",
    "Environment",
    "brax",
    "continuous_cartpole",
    "find",
    "gymnax",
    "names",
    "observation_size",
    "pendulum",
    "playground",
    "trap",
]
