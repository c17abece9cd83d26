"""Which configurations a sweep from Python has, and their traced numbers."""

import itertools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxes import hparams as numbers
from jaxes.checks import check, check_number
from jaxes.core import Strategy, TrainHParams, check_fits
from jaxes.problems.policy_search import check_hparams
from jaxes.problems.state import HParams
from jaxes.specs import spec_of
from jaxes.strategies import STRATEGIES

HParamsGrid = Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]]


def combinations(hparams: HParamsGrid | None) -> list[Mapping[str, float]]:
    """The configurations that `hparams` of `sweep` describes."""
    if hparams is None:
        return [{}]
    if not isinstance(hparams, Mapping):
        ok = isinstance(hparams, Sequence) and len(hparams) > 0
        ok = ok and all(isinstance(row, Mapping) for row in hparams)
        check("hparams", hparams, ok, "lists by name, or a list of at least one {name: value}")
        once = all(row not in hparams[:i] for i, row in enumerate(hparams))
        check("hparams", hparams, once, "without repetitions")
        return list(hparams)
    for name, values in hparams.items():
        many = isinstance(values, Sequence | np.ndarray | jax.Array) and not isinstance(values, str)
        check(f"hparams[{name!r}]", values, many and len(values) > 0, "a list of at least one")
        once = len({str(value) for value in values}) == len(values)
        check(f"hparams[{name!r}]", values, once, "without repetitions")
    return [
        dict(zip(hparams, values, strict=True)) for values in itertools.product(*hparams.values())
    ]


def replaced(hparams: TrainHParams, values: Mapping[str, float]) -> TrainHParams:
    """The hyperparameters with these values, by their names or paths, in place of theirs.

    Raises:
      ValueError: a name that none has, or several have; a value that is no number.
    """
    given: dict[str, float] = {}
    for name, value in values.items():
        path = numbers.find(hparams, name)
        check_number(f"hparams[{name!r}]", value)
        check(f"hparams[{name!r}]", values, path not in given, "given once")
        given[path] = value
    return numbers.with_values(hparams, given)


def check_ranges(strategy: Strategy, hparams: TrainHParams) -> None:
    """Raises a ValueError for a number that the factory of the strategy or problem would refuse, of
    those that come with jaxes."""
    check_fits(hparams, np.float32)
    spec = spec_of(strategy)
    if spec is not None:
        name, traced = spec["name"], numbers.paths(hparams.strategy)
        arguments = {field: traced.get(field, value) for field, value in spec[name].items()}
        STRATEGIES[name](spec["population_size"], **arguments)
    if isinstance(hparams.problem, HParams):
        check_hparams(hparams.problem)
