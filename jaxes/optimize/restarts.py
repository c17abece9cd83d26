"""Restarts with larger populations (IPOP), and with small ones in between (BIPOP)."""

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


def next_start(starts: Generator[Start, int, None], used: int) -> Start | None:
    try:
        return starts.send(used)
    except StopIteration:
        return None


def patience(dim: int, population_size: int) -> int:
    """The generations after which a start is given up for another (pycma's `maxiter`)."""
    return 100 + int(150 * (dim + 3) ** 2 / math.sqrt(population_size))
