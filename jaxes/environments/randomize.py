"""What is drawn of a system: changes of its leaves, one after another, within bounds.

The bounds are traced: they can be swept, or follow a `jaxes.Ramp`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_name, check_number, near
from jaxes.hparams import Number, Ramp, ends, now, number_of, paths, with_values
from jaxes.specs import plain

Kind = Literal["scale", "uniform", "gravity"]
System = Any
Function = Callable[[Array, System], System]
GRAVITY = ("gravity", "opt.gravity")  # where systems have it; Brax's have both


class Range(NamedTuple):
    """The bounds of what is drawn, uniformly."""

    low: Number
    high: Number


class Factors(NamedTuple):
    """Likewise of what a leaf is multiplied by, at least 0."""

    low: Number
    high: Number


@dataclasses.dataclass(frozen=True)
class Change:
    """What is done to one leaf of a system; see `scale`, `uniform` and `gravity`."""

    kind: Kind
    path: str  # of gravity: wherever it is
    range: Range | Factors
    shared: bool

    def __call__(self, key: Array, system: System, bounds: Any) -> System:
        leaves = paths(system)

        def drawn(leaf: Any) -> Array:
            shape = () if self.shared else jnp.shape(leaf)
            number = jax.random.uniform(key, shape, minval=bounds.low, maxval=bounds.high)
            new = number if self.kind == "uniform" else leaf * number
            return jnp.broadcast_to(new, jnp.shape(leaf)).astype(jnp.result_type(leaf))

        return with_values(system, {path: drawn(leaves[path]) for path in self.paths(leaves)})

    def paths(self, leaves: Mapping[str, Any]) -> list[str]:
        """Of the leaves that are changed, of those that a system has.

        Raises:
          ValueError: it has no such one.
        """
        found = [path for path in self._candidates if path in leaves]
        if not found:
            some = near(self.path, leaves) or f"; there are {', '.join(list(leaves)[:12])}, ..."
            raise ValueError(f"has no {self.path!r} in its system{some}")
        return found

    @property
    def _candidates(self) -> tuple[str, ...]:
        return GRAVITY if self.kind == "gravity" else (self.path,)

    def plain(self) -> dict[str, Any]:
        """What a config says of it."""
        low, high = map(plain, self.range)
        path = {} if self.kind == "gravity" else {"path": self.path}
        shared = {"shared": True} if self.shared and self.kind != "gravity" else {}
        return {"kind": self.kind, **path, "low": low, "high": high, **shared}


@dataclasses.dataclass(frozen=True)
class Randomizer:
    """Changes of a system, one after another; `|` puts two together.

    Attributes:
      parts: by name, `Change` or a function `(key, system) -> system` of one's own.
      leaves: in an environment, the leaves that it draws and physics reads, by their places.
    """

    parts: tuple[tuple[str, Change | Function], ...]
    leaves: tuple[int, ...] = ()

    @property
    def ranges(self) -> dict[str, Range | Factors]:
        """The bounds of the changes, by their names."""
        return {name: part.range for name, part in self.parts if isinstance(part, Change)}

    def __call__(
        self, key: Array, system: System, ranges: Mapping[str, Range | Factors] | None = None
    ) -> System:
        """The system that this key draws, within these ranges in place of its own."""
        given = now(self.ranges, 0) if ranges is None else ranges
        for i, (name, part) in enumerate(self.parts):
            part_key = jax.random.fold_in(key, i)
            if isinstance(part, Change):
                system = part(part_key, system, given[name])
            else:
                system = part(part_key, system)
        return system

    def __or__(self, other: "Randomizer | Function") -> "Randomizer":
        return Randomizer((*self.parts, *as_randomizer(other).parts))

    def __ror__(self, other: Function) -> "Randomizer":
        return as_randomizer(other) | self

    def plain(self) -> dict[str, Any]:
        """What a config says of it.

        Raises:
          TypeError: a part of it is a function.
        """
        for _, part in self.parts:
            if not isinstance(part, Change):
                raise TypeError(f"{part!r} is no plain data")
        return {name: part.plain() for name, part in self.parts if isinstance(part, Change)}


def scale(
    path: str, low: Number, high: Number, *, shared: bool = False, name: str | None = None
) -> Randomizer:
    """Multiplies a leaf of the system by U(low, high).

    Args:
      path: of the leaf, names joined by dots, such as `link.inertia.mass`.
      low: the least factor, at least 0; a number or a `jaxes.Ramp`.
      high: the greatest.
      shared: whether all numbers of the leaf have one factor; otherwise each has its own.
      name: what a sweep calls it, `NAME.low` and `NAME.high`; by default the last part of the path.

    Raises:
      ValueError: no numbers, or no range.

    Example:
      >>> jaxes.randomize.scale("link.inertia.mass", 0.5, 2.0)
    """
    return _one("scale", path, low, high, shared, name)


def uniform(
    path: str, low: Number, high: Number, *, shared: bool = False, name: str | None = None
) -> Randomizer:
    """Puts U(low, high) in the place of a leaf's numbers.

    Args:
      path: of the leaf, names joined by dots, such as `geom_friction`.
      low: the least number; a number or a `jaxes.Ramp`.
      high: the greatest.
      shared: whether all numbers of the leaf are the same one; otherwise each is drawn.
      name: what a sweep calls it, `NAME.low` and `NAME.high`; by default the last part of the path.

    Raises:
      ValueError: no numbers, or no range.

    Example:
      >>> jaxes.randomize.uniform("width", 0.05, 2.0)
    """
    return _one("uniform", path, low, high, shared, name)


def gravity(low: Number, high: Number, *, name: str = "gravity") -> Randomizer:
    """Multiplies gravity, the leaves `gravity` and `opt.gravity` of a system, by one U(low, high).

    Args:
      low: the least factor, at least 0; a number or a `jaxes.Ramp`.
      high: the greatest.
      name: what a sweep calls it, `NAME.low` and `NAME.high`.

    Raises:
      ValueError: no numbers, or no range.

    Example:
      >>> jaxes.randomize.gravity(0.7, 1.3)
    """
    return _one("gravity", GRAVITY[0], low, high, True, name)


def _one(
    kind: Kind, path: Any, low: Any, high: Any, shared: Any, name: str | None, field: str = ""
) -> Randomizer:
    check(f"{field}path", path, isinstance(path, str) and path != "", "a path, such as gravity")
    name = path.rsplit(".", 1)[-1] if name is None else name
    check(
        f"{field}name",
        name,
        isinstance(name, str) and name != "" and "." not in name,
        "a name without dots",
    )
    check(f"{field}shared", shared, isinstance(shared, bool), "a bool")
    bounds = Range(low, high) if kind == "uniform" else Factors(low, high)
    check_range(field or f"{name}.", bounds)
    return Randomizer(((name, Change(kind, path, bounds, shared)),))


def check_range(field: str, bounds: Range | Factors) -> None:
    """Raises a ValueError unless low is at most high, in each generation of ramps, and factors are
    at least 0."""
    for part, value in bounds._asdict().items():
        for number in ends(f"{field}{part}", value):
            check_number(f"{field}{part}", number)
    ramps = [number for number in bounds if isinstance(number, Ramp)]
    turns = {0.0, *(float(ramp.num_generations) for ramp in ramps)}
    for generation in sorted(turns):  # linear between
        low, high = (_exactly(number, generation) for number in bounds)
        check(f"{field}low", low, isinstance(bounds, Range) or low >= 0, "at least 0")
        check(f"{field}low", low, low <= high, f"at most high, {high}")


def _exactly(number: Any, generation: float) -> float:
    """The number in a generation, in double precision: a ramp's ends are what they were given."""
    if not isinstance(number, Ramp):
        return float(number)
    ends_at = float(number.start), float(number.end)
    return float(np.interp(generation, (0.0, float(number.num_generations)), ends_at))


def from_config(given: Mapping[str, Any], field: str = "randomize") -> Randomizer:
    """The randomizer that a config describes: by name `{kind, path, low, high, shared}`.

    Raises:
      ValueError: an unknown kind or field, or a value that is not allowed.
    """
    check(field, given, isinstance(given, Mapping) and len(given) > 0, "a mapping by name")
    parts: list[tuple[str, Change | Function]] = []
    for name, content in given.items():
        where = f"{field}.{name}"
        check(where, content, isinstance(content, Mapping), "{kind, path, low, high}")
        check_name(f"{where}.kind", content.get("kind"), get_args(Kind))
        turning = content["kind"] == "gravity"
        needed = ["low", "high"] if turning else ["path", "low", "high"]
        for one in content:
            check_name(where, one, ["kind", *needed] + ["shared"] * (not turning))
        for one in needed:
            check(where, dict(content), one in content, f"with the field {one}")
        path = GRAVITY[0] if turning else content["path"]
        low, high = (number_of(f"{where}.{part}", content[part]) for part in ("low", "high"))
        shared = content.get("shared", turning)
        parts += _one(content["kind"], path, low, high, shared, str(name), f"{where}.").parts
    return Randomizer(tuple(parts))


def as_randomizer(given: Any, field: str = "randomize") -> Randomizer:
    """What is given as one: a randomizer, a function, or what a config says.

    Raises:
      ValueError: it is none of these.
    """
    if isinstance(given, Randomizer):
        return given
    if isinstance(given, Mapping):
        return from_config(given, field)
    check(field, given, callable(given), "made by jaxes.randomize, or a function (key, system)")
    return Randomizer(((getattr(given, "__name__", "function"), given),))
