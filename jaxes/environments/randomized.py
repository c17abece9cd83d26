"""An environment as a distribution: what is drawn of its system is found, and looked at.

    masses = jaxes.randomize.scale("link.inertia.mass", 0.5, 2.0)
    hopper = jaxes.randomize.randomized(jaxes.environments.brax("hopper"), masses)

All members of a generation meet the same systems, and each generation draws new ones.
"""

import dataclasses
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import brief, check, failing, hashes, is_array, kinds, show
from jaxes.environments.base import Environment, is_made_by_its_system
from jaxes.environments.randomize import (
    GRAVITY,
    Change,
    Function,
    Randomizer,
    System,
    as_randomizer,
)
from jaxes.hparams import has_ramp, paths
from jaxes.specs import spec_of, with_spec


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
    given = {field: value for field, value in given.items() if value is not None}
    if not given:
        return environment
    check("environment", environment, isinstance(environment, Environment), "an Environment")
    has_system = environment.with_system is not None
    check("randomize", environment.name, has_system, "of an environment that has a system")
    allowed = "of an environment whose with_system has its own reset, step and measure"
    check("randomize", environment.name, is_made_by_its_system(environment), allowed)
    for field in given:
        once = getattr(environment, field) is None
        check(field, environment.name, once, "of an environment that has none: compose them by |")
    read = leaves_read(environment)
    fitted = {
        field: _fitted(as_randomizer(value, field), environment, read, field)
        for field, value in given.items()
    }
    if (tests := fitted.get("test_randomize")) is not None:
        steady = not has_ramp(tests.ranges)
        check("test_randomize", tests.ranges, steady, "of ranges that follow no Ramp: tests stay")
    # What draws nothing leaves the environment as it is.
    drawing: dict[str, Any] = {field: one if one.leaves else None for field, one in fitted.items()}
    made, spec = environment._replace(**drawing), spec_of(environment)
    try:
        said = {field: randomizer.plain() for field, randomizer in fitted.items()}
    except TypeError:
        spec = None
    return with_spec(made, None if spec is None else {**spec, **said})


def leaves_read(environment: Environment) -> set[int]:
    """Which leaves of its system the environment's reset and step depend on, by their places;
    traced once for environments made of the same, for physics takes seconds."""
    system = str(kinds(paths(environment.system)))
    made_of = environment.with_system, environment.num_outputs, system
    if not hashes(made_of):
        return _traced(environment)
    if made_of not in _read:
        _read[made_of] = _traced(environment)
    return _read[made_of]


_read: dict[Any, set[int]] = {}


def _traced(environment: Environment) -> set[int]:
    from jax.interpreters.partial_eval import dce_jaxpr

    leaves, structure = jax.tree.flatten(environment.system)
    assert environment.with_system is not None
    outputs = jax.ShapeDtypeStruct((environment.num_outputs,), jnp.float32)

    def episode(leaves: list[Any], key: Array, outputs: Array) -> Any:
        here = environment.with_system(jax.tree.unflatten(structure, leaves))  # type: ignore[misc]
        env_state, observation = here.reset(key)
        return observation, here.step(env_state, environment.action(outputs))

    with failing(f"{environment.name}: an episode with another system fails"):
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
    parts = (
        (name, _fitted_part(part, environment, read, f"{field}.{name}"))
        for name, part in randomizer.parts
    )
    fitted = Randomizer(tuple(parts))
    drawn = changed(fitted, environment.system)
    known = list(paths(environment.system))
    unread = [known[i] for i in drawn if i not in read and known[i] not in GRAVITY]
    physics = f"the physics of {environment.name}"
    some = not drawn or any(i in read for i in drawn)
    check(field, unread, some, f"of leaves that {physics} reads")
    if unread:
        warnings.warn(f"{field}: {physics} does not read {', '.join(unread)}", stacklevel=4)
    return dataclasses.replace(fitted, leaves=tuple(i for i in drawn if i in read))


def _fitted_part(
    part: Change | Function, environment: Environment, read: set[int], where: str
) -> Change | Function:
    system = environment.system
    if not isinstance(part, Change):
        return _fitted_function(part, system, where)
    leaves = paths(system)
    known = [path for i, path in enumerate(leaves) if i in read]
    try:
        found = part.paths(leaves)
    except ValueError as error:
        raise ValueError(f"{where}: {environment.name} {error}") from None
    if not set(found) & set(known):
        words = set(re.split(r"[._]", part.path))
        akin = [path for path in known if words & set(re.split(r"[._]", path))] or known
        raise ValueError(
            f"{where}: the physics of {environment.name} does not read {part.path!r}; it reads "
            f"{', '.join(akin[:12]) or 'none'}"
        )
    for path in found:
        leaf = jnp.asarray(leaves[path])
        check(f"{where}: {path}", show(leaf), is_array(leaf), "floats")
    return part


def _fitted_function(fn: Function, system: System, where: str) -> Function:
    """`(key, system) -> system` from that or from `(system, keys [N]) -> (system, in_axes)`."""
    arrays = jax.tree.map(jnp.asarray, system)
    failures = []
    for form in (fn, _first_of_batch(fn, where)):
        try:
            found = jax.eval_shape(form, jax.random.key(0), arrays)
        except Exception as error:
            failures.append(brief(error))
            continue
        if form is fn and isinstance(found, tuple) and not isinstance(arrays, tuple):
            continue  # with its axes: of the other form
        same = kinds(found)[0] == kinds(arrays)[0]
        check(where, show(found), same, "a function to a system of the same structure")
        pairs = zip(paths(arrays).items(), jax.tree.leaves(found), strict=True)
        for (path, before), after in pairs:
            kind = kinds(after) == kinds(before)
            check(f"{where}: its {path}", show(after), kind, f"like the system's, {show(before)}")
        return form
    raise ValueError(
        f"{where} must be a function (key, system) -> system, or (system, keys) -> (system, "
        f"in_axes), and fails: {'; '.join(dict.fromkeys(failures))}"
    )


def _first_of_batch(fn: Function, where: str) -> Function:
    """Of what it draws for one key, that."""

    def one(new: Array, old: Array) -> Array:
        if jnp.ndim(new) == jnp.ndim(old):
            return new
        check(where, show(new), jnp.shape(new)[:1] == (1,), f"a function to N of {show(old)}")
        return new[0]

    def draw(key: Array, system: System) -> System:
        batched, _ = fn(system, key[None])
        return jax.tree.map(one, batched, system)

    return draw
