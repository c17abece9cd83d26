"""Successive halving: which configurations of a sweep go on."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from jaxes.checks import check, check_count, check_fraction

C = TypeVar("C")


class Halving(NamedTuple):
    """Successive halving: after each of these generations the worst trials are dropped.

    Attributes:
      generations: when; each is tested then.
      keep: the share of the configurations that goes on, in (0, 1). They are compared by the mean
        over their seeds, and stay or go with all of them.

    Reference: Jamieson & Talwalkar, Non-stochastic best arm identification and hyperparameter
    optimization (AISTATS 2016).
    """

    generations: tuple[int, ...]
    keep: float = 0.5


def check_halving(halving: Halving | None, num_configurations: int, num_generations: int) -> None:
    """Raises a ValueError for rungs that are not in order, or with nothing to drop."""
    if halving is None:
        return
    allowed = "a Halving of a tuple of generations"
    many = isinstance(halving, Halving) and isinstance(halving.generations, tuple | list)
    check("halving", halving, many, allowed)
    rungs = list(halving.generations)
    for rung in rungs:
        check_count("halving.generations", rung, maximum=num_generations - 1)
    ordered = len(rungs) > 0 and rungs == sorted(set(rungs))
    check("halving.generations", halving.generations, ordered, "at least one, in rising order")
    check_fraction("halving.keep", halving.keep)
    check("halving.keep", halving.keep, halving.keep < 1, "less than 1")
    check("halving", num_configurations, num_configurations > 1, "of at least 2 configurations")


def survivors(scores: Mapping[C, Sequence[float]], keep: float) -> list[C]:
    """The share `keep` of configurations, at least one: those of which the fewest seeds diverged
    (a score of -inf), and among them those with the greatest mean score of the others."""

    def rank(name: C) -> tuple[int, float]:
        sound = [score for score in scores[name] if score > -math.inf]
        return len(sound), float(np.mean(sound)) if sound else -math.inf

    ranked = sorted(scores, key=rank, reverse=True)
    return ranked[: max(1, round(keep * len(ranked)))]
