"""How many jobs a device handles at once: what was measured to be fast (docs/decisions.md)."""

from typing import NamedTuple

import jax

from jaxes import parallel

# Lanes that fill a device: more leave a CPU core's cache, fewer leave a GPU idle.
LANES = {"cpu": 128, "gpu": 8192, "tpu": 8192}
BLOCK = 8


class Width(NamedTuple):
    """How many episodes a device handles at once.

    Attributes:
      lanes: episodes that step side by side.
      refill: episodes that begin at once; lanes wait until so many have ended.
      tail: the last episodes, when the queue is empty and no more than these are left.
      block: how many of those step side by side.
      sync: steps between two divisions of the pending jobs among the devices.
    """

    lanes: int
    refill: int
    tail: int
    block: int
    sync: int = 100

    @classmethod
    def of(cls, lanes: int) -> "Width":
        """What suits that many lanes."""
        if jax.default_backend() != "cpu":  # there a few lanes take as long as all of them
            return cls(lanes, refill=-(-lanes // 8), tail=0, block=lanes)
        tail = 0 if lanes < 4 * BLOCK else lanes * 3 // 8 // BLOCK * BLOCK
        return cls(lanes, refill=min(lanes, 4), tail=tail, block=BLOCK)


def suitable_lanes(num_jobs: int, maximum: int | None = None) -> int:
    """As many lanes as a device's share of the jobs fills in equal rounds, up to eights.

    There are at most `maximum`, by default `LANES`.
    """
    maximum = maximum or LANES.get(jax.default_backend(), 1024)
    share = -(-num_jobs // (parallel.num_devices() * parallel.num_hosts()))
    rounds = -(-share // maximum)
    return -(-share // rounds // 8) * 8
