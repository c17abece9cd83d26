"""How long the rest takes."""

import numpy as np
import pytest

from jaxes.training.schedule import TimeLeft


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
