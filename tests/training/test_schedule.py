"""How long the rest takes, what is tested, and which checkpoints stay."""

import numpy as np
import pytest

from jaxes.training.schedule import Pace, Schedule, TimeLeft


@pytest.mark.parametrize("growth", [0.0, 0.01, -0.005])
def test_time_left_follows_the_trend(growth):
    """Generations that become longer: the whole is told within a tenth, from a third of it on."""
    seconds = 0.1 * (1 + growth * np.arange(120))
    told = TimeLeft()
    for done in range(1, 121):
        told.took(done, 1, seconds[done - 1])
        rest = seconds[done:].sum()
        assert told.until(done, 120) >= 0
        if done >= 40:
            np.testing.assert_allclose(told.until(done, 120), rest, rtol=0.1, atol=0.05)


def test_a_trend_is_not_followed_without_end():
    told = TimeLeft()
    for done in range(1, 11):
        told.took(done, 1, float(done))
    assert told.until(10, 1010) <= 2 * 1000 * 10


def test_chunks_count_by_their_generations():
    told = TimeLeft()
    told.took(1, 1, 60.0)  # what warms up
    told.took(101, 100, 100.0)
    told.took(102, 1, 4.0)
    np.testing.assert_allclose(told.until(102, 202), 100 * 104 / 101)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("all", {10, 20, 30, 40}), (1, {40}), (3, {20, 30, 40}), (9, {10, 20, 30, 40})],
)
def test_how_many_checkpoints_stay(keep, kept):
    assert Schedule(50, 10, 10, None, keep).kept([30, 10, 40, 20], {10: 5.0}) == kept


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({10: 5.0, 20: 7.0, 30: 1.0}, {20}),
        ({10: 7.0, 20: 7.0}, {10}),
        ({10: -np.inf, 20: -np.inf}, {10}),
        ({40: 9.0, 10: 1.0}, set()),
        ({15: 9.0}, set()),  # which was not saved
    ],
)
def test_the_best_tested_checkpoint_stays_beside_the_last_two(scores, best):
    kept = Schedule(50, 10, 10, None).kept([10, 20, 30, 40], scores)
    assert kept == {30, 40} | best


@pytest.mark.parametrize(("keep", "tested"), [("best", [7, 10, 14, 20, 21, 23]), (2, [10, 20, 23])])
def test_a_checkpoint_is_of_a_tested_generation_where_the_best_stays(keep, tested):
    pace, done, found = Pace(Schedule(23, 7, 10, None, keep)), 0, []
    pace.planned = 256
    while done < 23:
        count, test = pace.next(done)
        done += count
        found += [done] * test
    assert found == tested
