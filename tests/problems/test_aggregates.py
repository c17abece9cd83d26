"""Aggregates, against NumPy on columns that are repeated as often as they weigh."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxes.problems.aggregates import aggregate_of

NAMES = ["mean", "min", "median", "cvar(0.25)", "cvar(0.7)", "cvar(1)", "ranks"]
ODD = np.array([np.nan, np.inf, -np.inf, 0, 1, 1, -2, 3e38], np.float32)


def mean(values):
    with np.errstate(all="ignore"):
        return np.mean(values.astype(float), axis=1)


def cvar(values, share):
    """Of equal weights, in float64; NaN sorts last, and so is looked for before."""
    number = share * values.shape[1]
    whole = int(number + 1e-9)
    ordered = np.sort(values.astype(float), axis=1)
    part = number - whole if number - whole > 1e-9 else 0
    with np.errstate(all="ignore"):
        total = np.sum(ordered[:, :whole], axis=1)
        total += part * ordered[:, whole] if part else 0
    return np.where(np.isnan(values).any(axis=1), np.nan, total / number)


def ranks(values):
    if np.isnan(values).all():
        return np.full(len(values), np.nan)
    if len(values) == 1:
        return np.zeros(1)
    known = np.where(np.isnan(values), -np.inf, values)
    return np.mean((stats.rankdata(known, axis=0) - 1) / (len(values) - 1) - 0.5, axis=1)


def median(values):
    with np.errstate(all="ignore"):
        return np.median(values.astype(float), axis=1)


EXPECTED = {
    "mean": mean,
    "min": lambda values: np.min(values, axis=1),
    "median": median,
    "ranks": ranks,
    **{f"cvar({share})": lambda v, share=share: cvar(v, share) for share in (0.25, 0.7, 1)},
}


def drawn(rng, shape, odd=0.4):
    """Random numbers, many of them the same, some of them odd."""
    values = rng.normal(size=shape).round(1).astype(np.float32)
    return np.where(rng.random(shape) < odd, rng.choice(ODD, shape), values)


def same(found, expected, **close):
    with np.errstate(over="ignore"):
        expected = np.asarray(expected).astype(np.float32)
    np.testing.assert_allclose(found, expected, **({"rtol": 2e-5, "atol": 2e-6} | close))


@pytest.mark.parametrize("name", NAMES)
def test_columns_count_as_often_as_they_weigh(name):
    rng = np.random.default_rng(0)
    aggregate = jax.jit(aggregate_of(name))
    for members, columns in [(2, 1), (3, 2), (6, 8), (1, 4), (5, 7)]:
        for odd in (0, 0.1, 0.4) * 20:
            values = drawn(rng, (members, columns), odd)
            times = rng.integers(0, 4, columns)
            times[rng.integers(columns)] += 1
            weights = np.float32(times / times.sum())
            expected = EXPECTED[name](np.repeat(values, times, axis=1))
            same(aggregate(values, weights), expected)


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_weight_is_the_column_twice(name):
    rng = np.random.default_rng(1)
    values, weights = drawn(rng, (6, 5), 0.2), np.float32([1, 3, 2, 2.5, 1.5])
    aggregate = jax.jit(aggregate_of(name))
    twice = np.concatenate([values, values[:, 1:2]], axis=1)
    apart = np.float32([1, 1.5, 2, 2.5, 1.5, 1.5])
    same(aggregate(values, weights / 10), aggregate(twice, apart / 10))


def test_the_whole_numbers_of_equal_weights_survive_rounding():
    """M = 1 to 200 of 200 columns, the others of weight 0; medians to the bit, and the mean of the
    k least beside which the next is huge."""
    values = np.random.default_rng(2).normal(size=(3, 200)).astype(np.float32)
    medians = jax.jit(aggregate_of("median"))
    for number in range(1, 201):
        weights = np.where(np.arange(200) < number, np.float32(1 / number), 0)
        found = medians(np.where(weights > 0, values, np.nan), weights)
        np.testing.assert_array_equal(found, np.median(values[:, :number], axis=1))
        if number in (1, 2, 3, 6, 7, 49, 50, 99, 199):
            alone = medians(values[:, :number], weights[:number])
            np.testing.assert_array_equal(alone, found)
    for share in (0.1, 0.25, 1 / 3, 0.7, 1.0):
        aggregate = jax.jit(aggregate_of(f"cvar({share:.17f})"))
        for number in range(1, 201):
            least = round(share * number)
            if abs(least - share * number) < 1e-9:
                weights = np.where(np.arange(200) < number, np.float32(1 / number), 0)
                found = aggregate(np.where(np.arange(200) < least, values, np.inf), weights)
                same(found, values[:, :least].mean(axis=1))


def test_by_hand():
    values = jnp.array([[4.0, 1.0, 2.0, 9.0], [3.0, 3.0, 3.0, -5.0]])
    weights = jnp.array([0.1, 0.2, 0.3, 0.4])
    expected = {
        "mean": [4.8, -0.2],
        "min": [1, -5],
        "median": [3, 3],  # 0.5 of the weight up to 2, and from 4 on
        "cvar(0.25)": [(0.2 * 1 + 0.05 * 2) / 0.25, -5],
        "cvar(0.8)": [(0.2 * 1 + 0.3 * 2 + 0.1 * 4 + 0.2 * 9) / 0.8, (0.4 * -5 + 0.4 * 3) / 0.8],
        "cvar(.00000001)": [1, -5],
        "ranks": [0.05 - 0.1 - 0.15 + 0.2, -0.05 + 0.1 + 0.15 - 0.2],
    }
    for name, fitness in expected.items():
        np.testing.assert_allclose(jax.jit(aggregate_of(name))(values, weights), fitness, atol=1e-6)
    light = jnp.array([1e-12, 0.5, 0.25, 0.25])
    low = jnp.array([[-jnp.inf, 1.0, 2.0, 3.0]])
    for name, fitness in {"mean": -np.inf, "cvar(0.25)": -np.inf, "median": 1.5}.items():
        np.testing.assert_allclose(jax.jit(aggregate_of(name))(low, light), fitness)


@pytest.mark.parametrize("members", [5, 300])
def test_ranks_know_no_scales(members):
    """To the bit; with more than 256 members they are found by sorting."""
    rng = np.random.default_rng(3)
    values = rng.permuted(np.tile(np.linspace(-3, 3, members, dtype=np.float32), (3, 1)), axis=1).T
    values[0, 0], values[1, 1], values[2, 1] = np.nan, values[2, 1], np.inf
    weights = np.float32([0.2, 0.3, 0.5])
    aggregate = jax.jit(aggregate_of("ranks"))
    found = aggregate(values, weights)
    same(found, ranks(np.repeat(values, [2, 3, 5], axis=1)))
    scaled = np.stack([np.exp(values[:, 0]), 1e9 * values[:, 1] ** 3, 5 * values[:, 2] - 7], axis=1)
    np.testing.assert_array_equal(aggregate(scaled, weights), found)
    assert np.argmin(aggregate(values, np.float32([1, 0, 0]))) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_large_case_is_cheap_and_compiled_once(name):
    rng = np.random.default_rng(4)
    aggregate = jax.jit(aggregate_of(name))
    traces = []

    @jax.jit
    def counted(values, weights):
        traces.append(None)
        return aggregate(values, weights)

    values = drawn(rng, (4096, 64), 0.001)
    for times in (np.ones(64, int), rng.integers(0, 3, 64)):
        weights = np.float32(times / times.sum())
        same(counted(values, weights), EXPECTED[name](np.repeat(values, times, axis=1)), atol=2e-5)
    start = time.perf_counter()
    jax.block_until_ready(counted(values, weights))
    assert time.perf_counter() - start < 2
    assert len(traces) == 1


@pytest.mark.parametrize("name", NAMES)
def test_trials_are_vmapped(name):
    rng = np.random.default_rng(5)
    values = drawn(rng, (3, 4, 5), 0.2)
    weights = rng.dirichlet(np.ones(5), 3).astype(np.float32)
    aggregate = jax.jit(aggregate_of(name))
    found = jax.vmap(aggregate)(values, weights)
    for each, *arguments in zip(found, values, weights, strict=True):
        same(each, aggregate_of(name)(*arguments))


def test_a_function_of_ones_own_is_taken():
    def second(values, weights):
        return values[:, 1] * weights[1]

    assert aggregate_of(second) is second


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("medain", r"aggregate must be one of mean, .*, got 'medain'; did you mean 'median'\?"),
        ("var(0.25)", r"got 'var\(0.25\)'; did you mean 'cvar\(0.25\)'\?"),
        (3, "aggregate must be one of mean, min, median, ranks, .*, got 3"),
        (None, "aggregate must be one of .*, got None"),
        *(
            (
                name,
                r"^aggregate must be cvar\(share\) with a share in \(0, 1\], as cvar\(0.25\), got",
            )
            for name in (
                "cvar",
                "cvar()",
                "cvar(0)",
                "cvar(1.5)",
                "cvar(-0.5)",
                "cvar(nan)",
                "cvar5",
            )
        ),
        (lambda values: values, r"aggregate\(values \[4, 3\], weights \[3\]\) fails: TypeError"),
        (lambda values, weights: values @ weights[:2], r"^aggregate\(.*\) fails: .*[Ee]rror"),
        (
            lambda values, weights: weights,
            r"must be floats \[4\], one a member, got 'float32\[3\]'",
        ),
        (lambda values, weights: 1.0, r"^aggregate\(.*\) must be floats \[4\], one a member"),
        (lambda values, weights: values.argmax(1), r"must be floats \[4\], .*, got 'int32\[4\]'"),
    ],
)
def test_what_is_no_aggregate_is_refused(name, message):
    with pytest.raises(ValueError, match=message) as refused:
        aggregate_of(name)
    assert "\n" not in str(refused.value)
