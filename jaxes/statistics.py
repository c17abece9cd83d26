"""Interquartile means over seeds, who is better than whom, and bootstrap confidence intervals.

Reference: Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice
(NeurIPS 2021), arXiv:2108.13264.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


def half_interval(samples: np.ndarray) -> float:
    """Half the width of the 95 % confidence interval of the mean of near normal samples [S], by
    Student's t, since they may be few; NaN of one sample."""
    return pooled_half_interval([samples])


def pooled_half_interval(groups: Sequence[np.ndarray]) -> float:
    """The same of the mean over all samples of groups, each with a mean and a variance of its own:
    by the spread within groups, since what differs between them is no error of sampling. NaN where
    a group has fewer than two. Degrees of freedom are Welch's and Satterthwaite's:

        (Σ v_i)² / Σ v_i² / (n_i - 1),    v_i = n_i s_i²
    """
    import scipy.special  # here, since it takes a seventh of a second

    sizes = np.array([group.size for group in groups])
    if sizes.min() < 2:
        return math.nan
    parts = np.array([group.size * group.var(ddof=1) for group in groups])
    total = parts.sum()
    if not total > 0:  # all the same, or NaN
        return float(total)
    freedom = total**2 / (parts**2 / (sizes - 1)).sum()
    return float(
        scipy.special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * math.sqrt(total) / sizes.sum()
    )


def interquartile_mean(samples: np.ndarray, axis: int = 0) -> Any:
    """The mean without the least and the greatest quarter of the samples."""
    import scipy.stats  # here, since it takes half a second and most runs rank nothing

    return scipy.stats.trim_mean(samples, 0.25, axis=axis)


def with_interval(samples: np.ndarray) -> tuple[float, float, float]:
    """The interquartile mean of samples [S], and the ends of its bootstrap confidence interval;
    NaN where there are fewer than two samples, or not all are finite."""
    import scipy.stats

    middle = float(interquartile_mean(samples))
    if samples.size < 2 or not np.isfinite(samples).all():
        return middle, math.nan, math.nan
    if np.ptp(samples) == 0:
        return middle, middle, middle
    interval = scipy.stats.bootstrap(
        (samples,),
        interquartile_mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return middle, float(interval.low), float(interval.high)


def probability_of_improvement(
    samples: np.ndarray, others: np.ndarray
) -> tuple[float, float, float]:
    """P(X > Y) + P(X = Y)/2 for runs X of `samples` [S] and Y of `others` [R], that is

        1/(S R) Σ_i Σ_j S(x_i, y_j),    S(x, y) = 1 if x > y, 1/2 if x = y, 0 if x < y

    (section 4.3 of the reference), and the ends of its bootstrap confidence interval, for which the
    runs of both are drawn anew; NaN where either has fewer than two. What diverged, -inf, is worse
    than all that is finite. Where no run of one is as good as any of the other, the interval is a
    point, because resampling knows no runs but these.
    """
    better = (samples[:, None] > others) + 0.5 * (samples[:, None] == others)
    middle = float(better.mean())
    if min(better.shape) < 2:
        return middle, math.nan, math.nan
    generator = np.random.default_rng(0)
    mine, theirs = (generator.integers(n, size=(RESAMPLES, n)) for n in better.shape)
    drawn = better[mine[:, :, None], theirs[:, None, :]].mean(axis=(1, 2))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return middle, float(low), float(high)
