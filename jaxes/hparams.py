"""Hyperparameters by path: a pytree of traced numbers, possibly nested, as names and values.

`TrainHParams(strategy=cem.HParams(sigma=1.0, ...), ...)` has the paths `strategy.sigma`, ...
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax

from jaxes.checks import near

T = TypeVar("T")


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
