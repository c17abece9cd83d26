"""What a factory was called with, as plain data that a config can hold: the `spec` of what it made.

    jaxes.environments.brax("hopper").spec
        {"name": "brax", "env_name": "hopper", "backend": "spring", "options": None}
    jaxes.problems.functions.sphere(4).spec
        {"problem": {"name": "sphere", "num_dims": 4}}
    jaxes.cem(64).spec
        {"name": "cem", "population_size": 64, "cem": {"sigma": 1.0, ...}}

Every argument is there, defaults included. What a config cannot express (a function, an object, an
environment or a network of one's own) makes the whole spec None.
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")
Shape = Callable[[str, dict[str, Any]], dict[str, Any]]  # (name, arguments) -> spec


class Spec(dict):
    """Plain data that hashes, so that what holds it may still be a static argument of jit.

    It remembers what it was made of, since `_replace` keeps it: see `spec_of`.
    """

    parts: tuple = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def named(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of an environment or a policy: `{"name": ..., **arguments}`."""
    return {"name": name, **arguments}


def of_function(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a problem without an environment: `{"problem": {"name": ..., **arguments}}`."""
    return {"problem": named(name, arguments)}


def of_search(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a policy in an environment: `{"environment": ..., "policy": ..., "problem": the rest}`."""
    parts = {part: arguments.pop(part) for part in ("environment", "policy")}
    return {**parts, "problem": arguments}


def of_many(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a policy in several: as `of_search`, their specs being an environment's `tasks`."""
    tasks = arguments.pop("tasks")
    return of_search(name, {"environment": named(name, {"tasks": tasks}), **arguments})


def of_strategy(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """`{"name": ..., "population_size": N, name: the other arguments}`."""
    return {"name": name, "population_size": arguments.pop("population_size"), name: arguments}


def of_planner(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a planner: its arguments, among them its strategy's and its objective's specs."""
    return arguments


def of_model(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Of a model: `{"name": ..., **arguments}` without the environment, a section of its own."""
    return named(name, {field: x for field, x in arguments.items() if field != "environment"})


def recorded(
    shape: Shape = named, name: str | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a factory: what it makes gets the field or attribute `spec`, or None there.

    Args:
      shape: how name and arguments are put together.
      name: of the factory in a config; by default the function's own.
    """

    def decorate(factory: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(factory)

        @functools.wraps(factory)
        def make(*args: P.args, **kwargs: P.kwargs) -> T:
            made: Any = factory(*args, **kwargs)
            try:
                spec = Spec(shape(name or factory.__name__, _arguments(signature, args, kwargs)))
            except TypeError:
                spec = None
            if "spec" in getattr(made, "_fields", ()):
                return with_spec(made, spec)
            if inspect.isfunction(made):  # it makes policies
                made.spec = spec  # type: ignore[attr-defined]
            return made

        return make

    return decorate


def with_spec(made: Any, spec: Mapping[str, Any] | None) -> Any:
    """The same with this spec, which describes it as it is now."""
    if spec is not None:
        spec = Spec(spec)
        spec.parts = _parts(made)
    return made._replace(spec=spec)


def spec_of(made: Any) -> Mapping[str, Any] | None:
    """Its spec, unless a part of it, but for hyperparameters, has been replaced since."""
    spec = getattr(made, "spec", None)
    if isinstance(spec, Spec) and hasattr(made, "_fields"):
        same = all(a is b for a, b in zip(spec.parts, _parts(made), strict=True))
        return spec if same else None
    return spec


def _parts(made: Any) -> tuple:
    return tuple(getattr(made, name) for name in made._fields if name not in ("hparams", "spec"))


def _arguments(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = {}
    for field, value in bound.arguments.items():
        parameter = signature.parameters[field]
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        try:
            arguments[field] = plain(value)
        except TypeError:
            if value is not parameter.default:  # which is what a config has that leaves it out
                raise
    return arguments


def plain(value: Any) -> Any:
    """The value as JSON and YAML write it; of what has a spec, that.

    Raises:
      TypeError: they cannot.
    """
    if (spec := spec_of(value)) is not None:
        return dict(spec)
    if isinstance(value, np.generic) or getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in (list, tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(each) for key, each in value.items()}
    raise TypeError(f"{value!r} is no plain data")
