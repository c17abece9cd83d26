"""When a run ends, is tested and is saved, and how many generations are dispatched at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxes.checks import check_count, check_number
from jaxes.training.metrics import Row
from jaxes.training.tested import score_of

MAX_CHUNK = 256  # generations a dispatch, at most
MANY_CHUNKS = 4  # from which a trend can be told
Keep = int | Literal["best", "all"]  # which checkpoints stay
CHUNK_SECONDS = 1.0  # a chunk is cut so that the display moves and Ctrl-C is heard about this often


class Schedule(NamedTuple):
    """These arguments of `jaxes.train`; the first three are in generations."""

    num_generations: int
    checkpoint_every: int
    test_every: int
    target_return: float | None
    keep_checkpoints: Keep = "best"

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Schedule":
        """From all arguments of `jaxes.train`."""
        return cls(*(arguments[field] for field in cls._fields))

    def check(self) -> None:
        """Raises a ValueError for a value outside its range."""
        check_count("num_generations", self.num_generations)
        check_count("checkpoint_every", self.checkpoint_every)
        check_count("test_every", self.test_every)
        if self.target_return is not None:
            check_number("target_return", self.target_return, allowed="a number or None")
        if self.keep_checkpoints not in ("best", "all"):
            check_count("keep_checkpoints", self.keep_checkpoints, why=", or `best` or `all`")

    def kept(self, saved: Sequence[int], scores: Mapping[int, float]) -> set[int]:
        """Of the generations that are saved those that stay; `scores` are of those tested."""
        if self.keep_checkpoints == "all":
            return set(saved)
        if self.keep_checkpoints != "best":
            return set(sorted(saved)[-self.keep_checkpoints :])
        return {*sorted(saved)[-2:], *best_of(saved, scores)}

    def reached(self, row: Row) -> bool:
        """Whether the test that a row tells of, if any, reached the target. Those that are made for
        a checkpoint alone do not count, so that when a run is saved does not show in its end."""
        generation = row["generation"]
        return (
            self.target_return is not None
            and (generation % self.test_every == 0 or generation == self.num_generations)
            and "test/return_mean" in row
            and score_of(row) >= self.target_return
        )


def best_of(saved: Sequence[int], scores: Mapping[int, float]) -> list[int]:
    """Of the generations that are saved the one whose test has the greatest score, the first of
    equals; none where none was tested."""
    tested = [generation for generation in sorted(saved) if generation in scores]
    return [max(tested, key=scores.__getitem__)] if tested else []


class TimeLeft:
    """How long the rest takes, if generations go on becoming longer or shorter as they did lately:
    a policy that learns to stand has longer episodes than one that falls."""

    def __init__(self) -> None:
        self._chunks: list[tuple[float, float, int]] = []  # middle, seconds a generation, how many

    def took(self, done: int, count: int, seconds: float) -> None:
        """A chunk of `count` generations that ended at `done`."""
        self._chunks.append((done - count / 2, seconds / count, count))

    def until(self, done: int, end: int) -> float:
        """Seconds from `done` generations to `end`."""
        # The first chunk warms up; what is longer ago than half of all says little of the trend.
        lately = [chunk for chunk in self._chunks[1:] if chunk[0] >= done / 2] or self._chunks[-1:]
        middle, rate, count = np.array(lately).T
        mean = np.average(rate, weights=count)
        if len(lately) < MANY_CHUNKS:
            return float(mean * (end - done))
        slope, level = np.polyfit(middle, rate, 1, w=np.sqrt(count))
        now, then = (np.clip(level + slope * at, mean / 2, mean * 2) for at in (done, end))
        return float((now + then) / 2 * (end - done))


class Pace:
    """How many generations the next chunk has."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.planned = 1

    def next(self, generation: int, stops: Sequence[int] = ()) -> tuple[int, bool]:
        """How many generations go on from here, to the next of `stops` at most, and whether there
        is a test after them."""
        last, saved, tested, _, keep = self.schedule
        regular = [generation + every - generation % every for every in (saved, tested)]
        ahead = [stop for stop in stops if stop > generation]
        end = min(last, generation + self.planned, *regular, *ahead)
        # To choose the best checkpoint, each is of a generation that was tested.
        chosen = keep == "best" and end % saved == 0
        return end - generation, end == last or end % tested == 0 or chosen

    def took(self, count: int, seconds: float) -> None:
        self.planned = max(1, min(MAX_CHUNK, round(CHUNK_SECONDS * count / seconds)))
