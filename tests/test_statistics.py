"""Interquartile means, probabilities of improvement and their intervals, against NumPy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from jaxes.statistics import (
    half_interval,
    pooled_half_interval,
    probability_of_improvement,
    with_interval,
)


def by_hand(samples):
    """Without a quarter of the samples at each end, rounded down."""
    cut = len(samples) // 4
    return np.sort(samples)[cut : len(samples) - cut].mean()


@pytest.mark.parametrize("size", [2, 5, 8, 20])
def test_the_interquartile_mean_and_its_interval_are_those_of_numpy(size):
    generator = np.random.default_rng(size)
    samples = generator.gamma(2.0, 100.0, size)
    middle, low, high = with_interval(samples)
    np.testing.assert_allclose(middle, by_hand(samples))
    drawn = [by_hand(generator.choice(samples, size)) for _ in range(4000)]
    ends = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose([low, high], ends, atol=0.05 * np.ptp(samples))


def test_all_resamples_of_few_runs_are_those_of_the_interval():
    ours, theirs = np.array([1.0, 4.0, 4.0]), np.array([2.0, 4.0])
    middle, low, high = probability_of_improvement(ours, theirs)
    assert middle == pytest.approx((0 + 0 + 1 + 0.5 + 1 + 0.5) / 6)
    drawn = [
        np.mean([(x > y) + 0.5 * (x == y) for x in mine for y in others])
        for mine in itertools.product(ours, repeat=3)
        for others in itertools.product(theirs, repeat=2)
    ]
    ends = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    np.testing.assert_allclose([low, high], ends, atol=0.02)


def test_one_is_as_much_better_as_the_other_is_worse():
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(size=7), generator.normal(0.5, size=5)
    middle, low, high = probability_of_improvement(ours, theirs)
    other, low_of_other, high_of_other = probability_of_improvement(theirs, ours)
    assert middle + other == pytest.approx(1)
    assert 0 <= low < middle < high <= 1
    np.testing.assert_allclose([low + high_of_other, high + low_of_other], 1, atol=0.05)


def test_runs_that_are_apart_and_runs_that_diverged():
    low, high = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])
    assert probability_of_improvement(high, low) == (1, 1, 1)
    diverged = np.array([-math.inf, -math.inf, 9.0])
    assert probability_of_improvement(diverged, low)[0] == pytest.approx(1 / 3)
    assert np.isnan(probability_of_improvement(low[:1], high)[1:]).all()


def test_an_interval_of_a_mean_is_of_student():
    five = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445105 * math.sqrt(2.5 / 5)  # of 4 degrees of freedom, as tables have it
    np.testing.assert_allclose(half_interval(five), half, rtol=1e-8)
    assert math.isnan(half_interval(five[:1]))


def test_an_interval_of_groups_is_of_their_own_means_and_variances():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 5, 4), 100 + generator.normal(0, 1, 4)
    # Of groups of one size the sum of the means has the interval of their difference, Welch's.
    low, high = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    np.testing.assert_allclose(pooled_half_interval([a, b]), (high - low) / 2 / 2, rtol=1e-8)
    # Hardly any degrees of freedom, where nearly all of the error is of a group of two
    quiet = np.full(100, 3.0) + generator.normal(0, 1e-6, 100)
    half = 12.706204736 * 2 * np.std([0, 9], ddof=1) / math.sqrt(2) / 102
    np.testing.assert_allclose(pooled_half_interval([np.array([0.0, 9.0]), quiet]), half, rtol=1e-5)
    assert pooled_half_interval([np.ones(2), np.zeros(3)]) == 0
    assert math.isnan(pooled_half_interval([a, b, np.array([7.0])]))
