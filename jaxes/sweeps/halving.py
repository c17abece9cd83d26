"""Successive halving: which trials of a sweep are out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxes.checks import check, check_count, check_fraction
from jaxes.sweeps.batches import Batch
from jaxes.sweeps.directory import SweepDir
from jaxes.sweeps.results import Trial


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


def check_halving(halving: Halving | None, trials: list[Trial], num_generations: int) -> None:
    """Raises a ValueError for rungs that are not in order, or with nothing to drop."""
    if halving is None:
        return
    allowed = "a Halving of a tuple of generations"
    many = isinstance(halving, Halving) and isinstance(halving.generations, tuple | list)
    check("halving", halving, many, allowed)
    rungs = list(halving.generations)
    for rung in rungs:
        check_count("halving.generations", rung, most=num_generations - 1)
    ordered = len(rungs) > 0 and rungs == sorted(set(rungs))
    check("halving.generations", halving.generations, ordered, "at least one, in rising order")
    check_fraction("halving.keep", halving.keep)
    check("halving.keep", halving.keep, halving.keep < 1, "less than 1")
    configurations = len({trial.configuration for trial in trials})
    check("halving", configurations, configurations > 1, "of at least 2 configurations")


def drop(halving: Halving, rung: int, batches: Sequence[Batch], directory: SweepDir) -> None:
    """Drops what the rungs before this one drop; all of it follows from the tests."""
    dropped: set[str] = set()
    for generation in halving.generations[:rung]:
        scores: dict[str, list[float]] = {}
        for batch in batches:
            for trial in batch.trials:
                if trial.configuration not in dropped:
                    score = directory.score(trial, generation)
                    scores.setdefault(trial.configuration, []).append(score)
        ranked = sorted(scores, key=lambda name: np.mean(scores[name]), reverse=True)
        dropped |= set(ranked[max(1, round(halving.keep * len(ranked))) :])
    for batch in batches:
        for i, trial in batch.each():
            if trial.configuration in dropped:
                batch.active[i] = False
                directory.mark(trial, "dropped")
