"""Hyperparameters by path: a pytree of traced numbers, possibly nested, as names and values.

`TrainHParams(strategy=cem.HParams(sigma=1.0, ...), ...)` has the paths `strategy.sigma`, ...
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_count, check_name, near

T = TypeVar("T")


class Ramp(NamedTuple):
    """A number that goes from `start` to `end` in so many generations, and stays there.

    Example:
      >>> jaxes.randomize.uniform("width", 0.05, jaxes.Ramp(0.5, 2.0, num_generations=100))
    """

    start: Array | float
    end: Array | float
    num_generations: Array | float

    @property
    def spec(self) -> dict[str, Any]:
        """What a config says of it."""
        start, end, count = float(self.start), float(self.end), int(self.num_generations)
        return {"start": start, "end": end, "num_generations": count}

    @classmethod
    def of(cls, field: str, given: Mapping[str, Any]) -> "Ramp":
        """From a mapping of its fields; a ValueError for others."""
        for name in given:
            check_name(field, name, cls._fields)
        whole = given.keys() == set(cls._fields)
        check(field, dict(given), whole, f"with the fields {', '.join(cls._fields)}")
        return cls(**given)

    def at(self, generation: Array | int) -> Array:
        """The number in a generation."""
        share = jnp.clip(generation / self.num_generations, 0, 1)
        return self.start + (self.end - self.start) * share


Number = Array | float | Ramp


def number_of(field: str, given: Any) -> Any:
    """What is given, or of a mapping the ramp that it describes."""
    return Ramp.of(field, given) if isinstance(given, Mapping) else given


def ends(field: str, number: Any) -> list[Any]:
    """The numbers that it begins and ends with; a ValueError for a ramp that has no length."""
    if not isinstance(number, Ramp):
        return [number]
    check_count(f"{field}.num_generations", number.num_generations)
    return [number.start, number.end]


def has_ramp(hparams: Any) -> bool:
    """Whether one of the numbers is a `Ramp`."""
    return any(map(_is_ramp, jax.tree.leaves(hparams, is_leaf=_is_ramp)))


def now(hparams: T, generation: Array | int) -> T:
    """The numbers in a generation."""

    def number(leaf: Any) -> Any:
        return leaf.at(generation) if isinstance(leaf, Ramp) else leaf

    return jax.tree.map(number, hparams, is_leaf=_is_ramp)


def _is_ramp(leaf: Any) -> bool:
    return isinstance(leaf, Ramp)


def paths(hparams: Any) -> dict[str, Any]:
    """The numbers of a pytree, each under the names on the way to it, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(hparams)
    return {".".join(map(_name, path)): leaf for path, leaf in leaves}


def find(hparams: Any, name: str) -> str:
    """The one path that is `name` or ends in it (`sigma` for `strategy.sigma`).

    Raises:
      ValueError: there is none, or there are several.
    """
    known = list(paths(hparams))
    matches = [path for path in known if f".{path}".endswith(f".{name}")]
    if name in matches:
        return name
    if len(matches) != 1:
        names = ", ".join(matches or known)
        raise ValueError(f"hparams: {name!r} must be one of {names}{near(name, known)}")
    return matches[0]


def with_values(hparams: T, values: Mapping[str, Any]) -> T:
    """The same pytree with these values, each by its path, in place of its own.

    Raises:
      ValueError: a path that it does not have.
    """
    known = paths(hparams)
    for path in values:
        if path not in known:
            raise ValueError(f"hparams: {path!r} must be one of {', '.join(known)}")
    leaves = (known | dict(values)).values()
    return jax.tree.unflatten(jax.tree.structure(hparams), leaves)


def _name(key: Any) -> str:
    """Of a NamedTuple's field, a mapping's key or a place in a sequence."""
    return str(next(getattr(key, kind) for kind in ("name", "key", "idx") if hasattr(key, kind)))
