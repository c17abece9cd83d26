"""Controllers by name, as published, and those in files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxes.checks import check, check_name
from jaxes.tetris.controller import Controller

# Dellacherie's by hand (Fahey 2003), building controllers by cross-entropy (Thiery & Scherrer
# 2009), and classification-based policy iteration (Gabillon, Ghavamzadeh & Scherrer 2013).
PUBLISHED: dict[str, tuple[str, tuple[float, ...]]] = {
    "dellacherie": ("dellacherie", (-1, 1, -1, -1, -4, -1)),
    "du": (
        "du",
        (-12.629, 6.601974, -9.215815, -19.77356, -13.08335, -10.48747, -1.611863, -24.04087),
    ),
    "dt10": ("dt_fast_wells", (-2.18, 2.42, -2.17, -3.31, 0.95, -2.22, -0.81, -9.65, 1.27)),
}


MAX_WEIGHT = 1e30  # so that no sum leaves float32, or what stands for a placement that loses


class Weighted(NamedTuple):
    """A controller with its weights, one a feature."""

    controller: Controller
    weights: tuple[float, ...]


def published(name: str, height: int = 20, width: int = 10) -> Weighted:
    """A controller by its name: `dellacherie`, `du` or `dt10`.

    Raises:
      ValueError: an unknown name, or a board that it cannot play on.
    """
    check_name("name", name, PUBLISHED)
    features, weights = PUBLISHED[name]
    return Weighted(Controller.of(features, height, width), weights)


def read(path: str | Path, height: int = 20, width: int = 10) -> Weighted:
    """The controller in a JSON file: `{"features": SET or [names...], "weights": [...]}`.

    Raises:
      ValueError: it cannot be read, is no such thing, or has not as many weights as features.
    """
    field = f"weights: {path}"
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{field} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{field} is no JSON: {error}") from error
    form = 'of the form {"features": SET or [names...], "weights": [...]}'
    check(field, data, isinstance(data, dict) and data.keys() == {"features", "weights"}, form)
    features, weights = data["features"], data["weights"]
    check(f"{field}: features", features, isinstance(features, str | list), "a set, or names")
    try:
        controller = Controller.of(features, height, width)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error
    numbers = isinstance(weights, list) and all(type(w) in (int, float) for w in weights)
    check(f"{field}: weights", weights, numbers, "a list of numbers")
    return checked(f"{field}: weights", Weighted(controller, tuple(weights)))


def checked(field: str, controller: Any) -> Weighted:
    """The same.

    Raises:
      ValueError: it is no `Weighted` on a board that there is, has not as many weights as features,
        or one that is no number within `MAX_WEIGHT`.
    """
    made = isinstance(controller, Weighted) and isinstance(controller.controller, Controller)
    check(field, controller, made, "a jaxes.tetris.Weighted, as jaxes.tetris.published makes")
    judged, weights = controller
    Controller.of(judged.features, judged.height, judged.width)  # it may have been made directly
    sizes = ", ".join(f"{size} of {name}" for name, size in judged.sizes.items())
    allowed = f"{judged.num_weights} numbers: {sizes}"
    several = isinstance(weights, Sequence | np.ndarray) and len(weights) == judged.num_weights
    check(field, weights, several, allowed)
    for weight in weights:
        number = isinstance(weight, int | float | np.number)
        held = number and abs(weight) <= MAX_WEIGHT
        check(field, weight, held, f"numbers, finite and at most {MAX_WEIGHT:g} in size")
    return controller
