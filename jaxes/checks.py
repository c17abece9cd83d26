"""Refusals of bad input: each names the field, the value and what is allowed."""

import contextlib
import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MAX_COUNT = 2**31 - 1  # numbers of members, steps and dimensions are int32


def check(field: str, value: Any, ok: bool, allowed: str) -> None:
    """Raises a ValueError unless `ok`."""
    if not ok:
        got = " ".join(repr(value).split())
        got = got if len(got) <= 200 else f"{got[:200]} ..."
        raise ValueError(f"{field} must be {allowed}, got {got}")


def check_number(
    field: str,
    value: Any,
    ok: Callable[[Any], bool] = lambda number: True,
    allowed: str = "a number",
) -> None:
    """Raises a ValueError unless `value` is a finite real number for which `ok`."""
    check(field, "one traced by jit", not isinstance(value, jax.core.Tracer), allowed)
    if getattr(value, "shape", None) == ():
        value = value.item()  # an array of one number
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    # Of an int that no float can hold, `isfinite` raises an error.
    real = number and not isinstance(value, np.complexfloating)
    real = real and abs(value) <= sys.float_info.max
    if not real:
        allowed = "a finite number" if allowed == "a number" else f"{allowed} (a finite number)"
    check(field, value, bool(real and ok(value)), allowed)


def check_positive(field: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a finite number greater than 0."""
    check_number(field, value, lambda number: number > 0, "positive")


def check_non_negative(field: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a finite number of at least 0."""
    check_number(field, value, lambda number: number >= 0, "at least 0")


def check_fraction(field: str, value: Any) -> None:
    """Raises a ValueError unless `value` is a number in (0, 1]."""
    check_number(field, value, lambda number: 0 < number <= 1, "in (0, 1]")


def check_count(
    field: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT, why: str = ""
) -> None:
    """Raises a ValueError unless `value` is an int in [minimum, maximum]."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    bound = f" and at most {maximum}" if whole and value > maximum else ""
    ok = whole and minimum <= value <= maximum
    check(field, value, ok, f"a whole number of at least {minimum}{bound}{why}")


def check_seed(field: str, value: Any) -> None:
    """Raises a ValueError unless `value` is an int in [0, 2³²); greater ones alias smaller ones."""
    check_count(field, value, minimum=0, maximum=2**32 - 1)


def check_name(field: str, value: Any, names: Iterable[str]) -> None:
    """Raises a ValueError, with the nearest name, unless `value` is one of `names`."""
    names = list(names)
    if not isinstance(value, str) or value not in names:
        raise ValueError(
            f"{field} must be one of {', '.join(names)}, got {value!r}{near(value, names)}"
        )


def check_path(field: str, value: Any) -> None:
    """Raises a ValueError unless it is a path, or None."""
    path = isinstance(value, str | os.PathLike) and value != ""
    check(field, value, value is None or path, "a path or None")


def check_package(field: str, value: Any, package: str, install: str) -> None:
    """Raises a ValueError, which says how to `install` it, unless `package` is there."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{field}: {value!r} needs the package {package}: {install}")


def brief(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


@contextlib.contextmanager
def failing(what: str, unless: Callable[[Exception], bool] = lambda error: False) -> Iterator[None]:
    """Turns what a part of a user's own raises into a ValueError, `what: the error in a line`,
    `unless` the error speaks for itself."""
    try:
        yield
    except Exception as error:
        if unless(error):
            raise
        raise ValueError(f"{what}: {brief(error)}") from error


def kinds(tree: Any) -> tuple:
    """What must stay the same of a tree that is carried along: structure, shapes and dtypes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf), _dtype(leaf)) for leaf in leaves]


def hashes(value: Any) -> bool:
    """Whether it can be a key of a cache: not hyperparameters that are arrays, say."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_real(dtype: Any) -> bool:
    """Whether it is the dtype of real numbers, whole ones and booleans among them."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def is_number(value: Any) -> bool:
    """Whether it is an array of real numbers, of any shape, or one of them."""
    if isinstance(value, bool | int | float):
        return isinstance(value, float) or abs(value) <= MAX_COUNT
    return is_real(getattr(value, "dtype", np.dtype(object)))


def is_key(leaf: Any) -> bool:
    """Whether it is an array of typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_array(value: Any, kind: Any = jnp.floating) -> bool:
    """Whether it is an array of this kind of numbers, of any shape."""
    return jnp.issubdtype(getattr(value, "dtype", np.dtype(object)), kind)


def show(tree: Any) -> str:
    """A tree with each leaf as its dtype and shape."""
    return str(jax.tree.map(lambda leaf: f"{_dtype(leaf)}{list(np.shape(leaf))}", tree))[:200]


def _dtype(leaf: Any) -> Any:
    """What it has as an array; of what is none, its type."""
    try:
        if isinstance(leaf, str):  # which could be the name of one
            return "str"
        return getattr(leaf, "dtype", None) or jnp.result_type(leaf)
    except (TypeError, ValueError, OverflowError):
        return type(leaf).__name__


def near(value: Any, names: Iterable[str]) -> str:
    """`; did you mean '...'?`, if one of the names is close."""
    matches = difflib.get_close_matches(str(value), list(names), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
