"""Environments that are distributions: what is drawn of their system, once an episode.

    from jaxes import randomize

    masses = randomize.scale("link.inertia.mass", 0.5, 2.0)
    problem = jaxes.problems.brax("hopper", randomize=masses | randomize.gravity(0.7, 1.3))

All members of a generation meet the same systems, and each generation draws new ones. The bounds
are traced: they can be swept, or follow a `jaxes.Ramp`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import brief, check, check_name, check_number, is_array, kinds, near, show
from jaxes.environments.base import Environment
from jaxes.hparams import Number, Ramp, ends, has_ramp, now, paths, with_values
from jaxes.specs import plain, spec_of, with_spec

Kind = Literal["scale", "uniform", "gravity"]
System = Any
Function = Callable[[Array, System], System]
GRAVITY = ("gravity", "opt.gravity")  # where systems have it, the first that physics reads


class Range(NamedTuple):
    """The bounds of what is drawn, uniformly."""

    low: Number
    high: Number


@dataclasses.dataclass(frozen=True)
class Change:
    """What is done to one leaf of a system; see `scale`, `uniform` and `gravity`."""

    kind: Kind
    path: str
    range: Range
    shared: bool

    def __call__(self, key: Array, system: System, bounds: Any) -> System:
        leaf = paths(system)[self.path]
        shape = () if self.shared else jnp.shape(leaf)
        drawn = jax.random.uniform(key, shape, minval=bounds.low, maxval=bounds.high)
        new = drawn if self.kind == "uniform" else leaf * drawn
        new = jnp.broadcast_to(new, jnp.shape(leaf)).astype(jnp.result_type(leaf))
        return with_values(system, {self.path: new})

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
    def ranges(self) -> dict[str, Range]:
        """The bounds of the changes, by their names."""
        return {name: part.range for name, part in self.parts if isinstance(part, Change)}

    def __call__(
        self, key: Array, system: System, ranges: Mapping[str, Range] | None = None
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
    """Multiplies gravity, wherever the system has it, by one U(low, high).

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
    check(f"{field}name", name, isinstance(name, str) and "." not in name, "a name without dots")
    check(f"{field}shared", shared, isinstance(shared, bool), "a bool")
    check_range(field or f"{name}.", low, high, None if kind == "uniform" else 0.0)
    return Randomizer(((name, Change(kind, path, Range(low, high), shared)),))


def check_range(field: str, low: Any, high: Any, least: float | None = None) -> None:
    """Raises a ValueError unless these are bounds, `least` or more, in each generation of ramps."""
    for part, value in (("low", low), ("high", high)):
        for number in ends(f"{field}{part}", value):
            check_number(f"{field}{part}", number)
    ramps = [number for number in (low, high) if isinstance(number, Ramp)]
    turns = {0.0, *(float(ramp.num_generations) for ramp in ramps)}
    for generation in sorted(turns):  # linear between
        a, b = (_exactly(number, generation) for number in (low, high))
        check(f"{field}low", a, least is None or a >= least, f"at least {least}")
        check(f"{field}low", a, a <= b, f"at most high, {b}")


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
        low, high = (_bound(f"{where}.{part}", content[part]) for part in ("low", "high"))
        shared = content.get("shared", turning)
        parts += _one(content["kind"], path, low, high, shared, str(name), f"{where}.").parts
    return Randomizer(tuple(parts))


def _bound(field: str, value: Any) -> Any:
    """A number, or a ramp from a mapping of its fields."""
    return Ramp.of(field, value) if isinstance(value, Mapping) else value


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


def randomized(
    environment: Environment, randomize: Any = None, test_randomize: Any = None
) -> Environment:
    """The environment as a distribution: a search draws a system for each of its episodes.

    Its own `reset` and `step` remain those of the base system. Tests are in the base system, and
    apart from these in fresh draws of the training's, and in those of `test_randomize`.

    Args:
      environment: one that has a system: all that come with jaxes.
      randomize: made by `scale`, `uniform`, `gravity` and `|`; or a pure function `(key, system) ->
        system`, or one of Brax's and Playground's form, `(system, keys [N]) -> (system, in_axes)`.
      test_randomize: likewise; what tests alone draw.

    Raises:
      ValueError: an environment without a system, a path that it does not have or that its physics
        does not read, a function that fails or returns a system of another structure, other shapes
        or dtypes; before anything is compiled.

    Example:
      >>> hopper = jaxes.environments.brax("hopper")
      >>> jaxes.randomize.randomized(hopper, jaxes.randomize.gravity(0.7, 1.3))
    """
    given = {"randomize": randomize, "test_randomize": test_randomize}
    if all(value is None for value in given.values()):
        return environment
    has_system = environment.with_system is not None
    check("randomize", environment.name, has_system, "of an environment that has a system")
    read = leaves_read(environment)
    fitted = {
        field: _fitted(as_randomizer(value, field), environment, read, field)
        for field, value in given.items()
        if value is not None
    }
    if (tests := fitted.get("test_randomize")) is not None:
        steady = not has_ramp(tests.ranges)
        check("test_randomize", tests.ranges, steady, "of ranges that follow no Ramp: tests stay")
    # What draws nothing leaves the environment as it is.
    drawing: dict[str, Any] = {field: one if one.leaves else None for field, one in fitted.items()}
    made = environment._replace(**drawing)
    spec = spec_of(environment)
    try:
        said = {field: randomizer.plain() for field, randomizer in fitted.items()}
    except TypeError:
        spec = None
    return with_spec(made, None if spec is None else {**spec, **said})


def leaves_read(environment: Environment) -> set[int]:
    """Which leaves of its system the environment's reset and step depend on, by their places."""
    from jax.interpreters.partial_eval import dce_jaxpr

    leaves, structure = jax.tree.flatten(environment.system)
    assert environment.with_system is not None
    outputs = jax.ShapeDtypeStruct((environment.num_outputs,), jnp.float32)

    def episode(leaves: list[Any], key: Array, outputs: Array) -> Any:
        here = environment.with_system(jax.tree.unflatten(structure, leaves))  # type: ignore[misc]
        env_state, observation = here.reset(key)
        return observation, here.step(env_state, environment.action(outputs))

    jaxpr = jax.make_jaxpr(episode)(leaves, jax.random.key(0), outputs).jaxpr
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return {i for i in range(len(leaves)) if used[i]}


def changed(randomizer: Randomizer, system: System) -> tuple[int, ...]:
    """Which leaves it draws, by their places; found by a trace, in which the others are passed on
    as they are."""
    leaves, structure = jax.tree.flatten(system)
    found: list[int] = []

    def trace(leaves: list[Array], key: Array) -> None:
        after = jax.tree.leaves(randomizer(key, jax.tree.unflatten(structure, leaves)))
        found.extend(i for i, leaf in enumerate(leaves) if after[i] is not leaf)

    jax.eval_shape(trace, [jnp.asarray(leaf) for leaf in leaves], jax.random.key(0))
    return tuple(found)


def _fitted(
    randomizer: Randomizer, environment: Environment, read: set[int], field: str
) -> Randomizer:
    """The randomizer as this environment has it, after a look at all that it does."""
    names = [name for name, part in randomizer.parts if isinstance(part, Change)]
    for i, name in enumerate(names):
        alone = name not in names[:i]
        check(f"{field}.{name}", names, alone, "the name of one part alone: give name=")
    fitted = Randomizer(tuple(_fitted_parts(randomizer, environment, read, field)))
    drawn = changed(fitted, environment.system)
    names = [path for i, path in enumerate(paths(environment.system)) if i in drawn]
    some = not drawn or any(i in read for i in drawn)
    check(field, names, some, f"of leaves that the physics of {environment.name} reads")
    return dataclasses.replace(fitted, leaves=tuple(i for i in drawn if i in read))


def _fitted_parts(
    randomizer: Randomizer, environment: Environment, read: set[int], field: str
) -> Iterator[tuple[str, Change | Function]]:
    system = environment.system
    leaves = paths(system)
    places = {path: i for i, path in enumerate(leaves)}
    for name, part in randomizer.parts:
        if not isinstance(part, Change):
            yield name, _fitted_function(part, system, f"{field}.{name}")
            continue
        where = f"{field}.{name}"
        if part.kind == "gravity":
            found = [path for path in GRAVITY if places.get(path) in read]
            check(
                where, environment.name, bool(found), "of an environment whose system has gravity"
            )
            part = dataclasses.replace(part, path=found[0])
        if part.path not in leaves:
            some = near(part.path, leaves) or f"; there are {', '.join(list(leaves)[:12])}, ..."
            raise ValueError(
                f"{where}: {environment.name} has no {part.path!r} in its system{some}"
            )
        if places[part.path] not in read:
            words = set(re.split(r"[._]", part.path))
            known = [path for path, i in places.items() if i in read]
            akin = [path for path in known if words & set(re.split(r"[._]", path))] or known
            raise ValueError(
                f"{where}: the physics of {environment.name} does not read {part.path!r}; it reads "
                f"{', '.join(akin[:12])}"
            )
        leaf = jnp.asarray(leaves[part.path])
        check(f"{where}: {part.path}", show(leaf), is_array(leaf), "floats")
        yield name, part


def _fitted_function(fn: Function, system: System, where: str) -> Function:
    """`(key, system) -> system` from that or from `(system, keys [N]) -> (system, in_axes)`."""
    key = jax.random.key(0)
    arrays = jax.tree.map(jnp.asarray, system)

    def first_of_batch(key: Array, system: System) -> System:
        batched, _ = fn(system, key[None])
        return jax.tree.map(
            lambda new, old: new[0] if jnp.ndim(new) > jnp.ndim(old) else new, batched, system
        )

    failures = []
    for form in (fn, first_of_batch):
        try:
            found = jax.eval_shape(form, key, arrays)
        except Exception as error:
            failures.append(brief(error))
            continue
        if form is fn and isinstance(found, tuple) and not isinstance(arrays, tuple):
            continue
        same = kinds(found)[0] == kinds(arrays)[0]
        check(where, show(found), same, "a function to a system of the same structure")
        for (path, before), after in zip(
            paths(arrays).items(), jax.tree.leaves(found), strict=True
        ):
            kind = kinds(after) == kinds(before)
            check(f"{where}: its {path}", show(after), kind, f"like the system's, {show(before)}")
        return form
    raise ValueError(
        f"{where} must be a function (key, system) -> system, or (system, keys) -> (system, "
        f"in_axes), and fails: {'; '.join(dict.fromkeys(failures))}"
    )


__all__ = ["Ramp", "Randomizer", "Range", "gravity", "randomized", "scale", "uniform"]
