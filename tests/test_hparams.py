"""Traced numbers by path, nested or not."""

from typing import NamedTuple

import pytest

from jaxes import hparams
from jaxes.core import TrainHParams


class Inner(NamedTuple):
    sigma: float
    rate: float


class Outer(NamedTuple):
    inner: Inner
    parts: dict
    sigma: float


NESTED = TrainHParams(Inner(1.0, 2.0), Outer(Inner(3.0, 4.0), {"a": (5.0, 6.0)}, 7.0))


def test_paths_name_every_number_and_values_replace_them():
    assert hparams.paths(NESTED) == {
        "strategy.sigma": 1.0,
        "strategy.rate": 2.0,
        "problem.inner.sigma": 3.0,
        "problem.inner.rate": 4.0,
        "problem.parts.a.0": 5.0,
        "problem.parts.a.1": 6.0,
        "problem.sigma": 7.0,
    }
    changed = hparams.with_values(NESTED, {"problem.parts.a.1": 0.0, "strategy.rate": -1.0})
    assert changed == TrainHParams(Inner(1.0, -1.0), Outer(Inner(3.0, 4.0), {"a": (5.0, 0.0)}, 7.0))
    assert hparams.with_values(NESTED, {}) == NESTED


def test_a_name_is_found_where_it_is_the_only_one():
    assert hparams.find(NESTED, "a.0") == "problem.parts.a.0"
    assert hparams.find(NESTED, "strategy.rate") == "strategy.rate"
    with pytest.raises(
        ValueError, match=r"'sigma' must be one of strategy.sigma, problem.inner.sigma, pro"
    ):
        hparams.find(NESTED, "sigma")
    with pytest.raises(ValueError, match=r"'problem.sgima' must be .*mean 'problem.sigma'"):
        hparams.find(NESTED, "problem.sgima")
    with pytest.raises(ValueError, match="'igma' must be one of"):
        hparams.find(NESTED, "igma")
    with pytest.raises(ValueError, match=r"'problem.x' must be one of"):
        hparams.with_values(NESTED, {"problem.x": 1.0})
