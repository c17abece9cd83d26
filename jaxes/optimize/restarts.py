"""Restarts with larger populations (IPOP), and with small ones in between (BIPOP)."""

import functools
import math
from collections.abc import Generator
from typing import Literal, NamedTuple

import numpy as np

Restarts = Literal["none", "ipop", "bipop"]


class Start(NamedTuple):
    """How to start: the population, a factor on the standard deviations, and a budget."""

    population_size: int
    std_factor: float = 1.0
    budget: float = math.inf


def starts(
    restarts: Restarts, size: int, max_restarts: int, seed: int
) -> Generator[Start, int, None]:
    """All starts, one after another; it is sent the evaluations that each has used."""
    yield Start(size)
    if restarts == "none":
        return
    rng = np.random.default_rng(seed)
    doublings, last_large, used_large, used_small = 0, 0, 0, 0
    while True:
        if restarts == "bipop" and used_small < used_large:
            u, v = rng.uniform(size=2)
            small = max(size, int(size * (2**doublings / 2) ** (u**2)))
            small += small % 2  # strategies that sample in pairs need an even number
            used_small += yield Start(small, 10 ** (-2 * v), last_large / 2)
        elif doublings < max_restarts:
            doublings += 1
            last_large = yield Start(size * 2**doublings)
            used_large += last_large
        else:
            return


@functools.lru_cache(maxsize=8)
def plan_after(
    used: tuple[int, ...], restarts: Restarts, size: int, max_restarts: int, seed: int
) -> Start | None:
    """The start after those that have used so many evaluations; None after the last."""
    remaining = starts(restarts, size, max_restarts, seed)
    try:
        plan = next(remaining)
        for evaluations in used:
            plan = remaining.send(evaluations)
    except StopIteration:
        return None
    return plan


def patience(dim: int, population_size: int) -> int:
    """The generations after which a start is given up for another (pycma's `maxiter`)."""
    return 100 + int(150 * (dim + 3) ** 2 / math.sqrt(population_size))
