"""The contract of weights, and each of them against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes import weights

FITNESS = jnp.array([3.0, -1.0, 7.0, 0.5, 2.0, 11.0])
FUNCTIONS = {
    "elite": weights.elite,
    "log_rank": weights.log_rank,
    "z_score": weights.z_score,
    "elite of z_score": weights.compose(weights.elite, weights.z_score),
    "utilities of raw": weights.compose(weights.utilities, weights.raw),
    "z_score of centered_rank": weights.compose(weights.z_score, weights.centered_rank),
    "centered_rank": weights.centered_rank,
    "raw": weights.raw,
    "utilities": weights.utilities,
}


@pytest.fixture(params=sorted(FUNCTIONS))
def shape(request):
    return FUNCTIONS[request.param]


def test_definitions():
    np.testing.assert_allclose(weights.elite(FITNESS, 0.5), np.array([1, 0, 1, 0, 0, 1]) / 3)
    expected = np.array([3, 0, 4, 1, 2, 5]) / 5 - 0.5
    np.testing.assert_allclose(weights.centered_rank(FITNESS), expected, atol=1e-7)
    np.testing.assert_array_equal(weights.raw(FITNESS), FITNESS)
    np.testing.assert_allclose(
        weights.z_score(FITNESS), (FITNESS - FITNESS.mean()) / FITNESS.std(), rtol=1e-6
    )
    logs = np.log(3.5) - np.log([2, 3, 1])  # ranks of members 2, 0 and 5 among the best three
    np.testing.assert_allclose(
        weights.log_rank(FITNESS)[jnp.array([2, 0, 5])], logs / logs.sum(), rtol=1e-6
    )
    by_rank = np.maximum(0, np.log(4) - np.log(np.arange(1, 7)))
    by_rank = by_rank / by_rank.sum() - 1 / 6
    np.testing.assert_allclose(weights.utilities(FITNESS), by_rank[[2, 5, 1, 4, 3, 0]], atol=1e-7)


@pytest.mark.parametrize("shape", [weights.elite, weights.log_rank])
def test_elites_sum_to_one_for_any_traced_fraction(shape):
    sums = jax.vmap(lambda fraction: shape(FITNESS, fraction).sum())
    np.testing.assert_allclose(sums(jnp.linspace(0.0, 1.5, 50)), 1, rtol=1e-6)


def test_one_member_and_whole_numbers_will_do(shape):
    alone = shape(jnp.array([7.0]))
    assert weights.total(shape) in (None, float(alone[0]))
    np.testing.assert_array_equal(shape(jnp.array([3, 1, 2])), shape(jnp.array([3.0, 1.0, 2.0])))


def test_weights_sum_to_what_they_declare(shape):
    total = weights.total(shape)
    if total is None:
        assert shape is weights.raw
    else:
        np.testing.assert_allclose(shape(FITNESS).sum(), total, atol=1e-6)
        np.testing.assert_allclose(shape(FITNESS.at[2].set(jnp.nan)).sum(), total, atol=1e-6)


def test_every_function_is_tested():
    assert set(weights.WEIGHTS) <= set(FUNCTIONS)


def test_more_fitness_never_weighs_less(shape):
    assert np.all(np.diff(shape(FITNESS)[jnp.argsort(FITNESS)]) >= 0)


@pytest.mark.parametrize("huge", [1e38, -1e38, 3.4e38])
def test_weights_of_huge_fitness_are_finite(shape, huge):
    shaped = shape(jnp.array([huge, -huge, 1.0, 0.0, huge, 2.0]))
    assert np.isfinite(shaped).all()
    assert np.isfinite(shaped.sum())


@pytest.mark.parametrize("huge", [1e37, 1e38, 1.8e38, 3.4e38])
def test_one_huge_fitness_is_an_outlier_to_z_score(huge):
    outlier = [3**0.5, *[-(3**-0.5)] * 3]
    for sign in (1, -1):
        fitness = jnp.array([sign * huge, 0.0, 1.0, 2.0])
        np.testing.assert_allclose(weights.z_score(fitness), sign * np.array(outlier), rtol=1e-5)


@pytest.mark.parametrize("unlike", [lambda F: F > 1000, jnp.exp])  # of ranks: 0, and infinite
def test_weights_that_say_nothing_of_ranks_are_taken_as_they_are(unlike):
    fitness = jnp.linspace(0.0, 2.0, 128).at[3].set(5.0)
    if unlike is not jnp.exp:
        fitness = 1000 * fitness

    def centred(fitness):
        shaped = unlike(fitness).astype(jnp.float32)
        return shaped - shaped.mean()

    expected = centred(fitness)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(weights.like_utilities(centred, fitness), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["utilities", "centered_rank", "z_score"])
def test_like_utilities_brings_weights_to_one_scale(name):
    shaped = weights.like_utilities(FUNCTIONS[name], jnp.arange(6.0))
    np.testing.assert_allclose(
        jnp.abs(shaped).sum(), jnp.abs(weights.utilities(jnp.arange(6.0))).sum(), rtol=1e-6
    )


def test_permutations_commute(shape):
    order = jnp.array([4, 2, 0, 5, 1, 3])
    np.testing.assert_array_equal(shape(FITNESS[order]), shape(FITNESS)[order])


def test_nan_weighs_as_little_as_anything(shape):
    for bad in range(FITNESS.size):
        shaped = shape(FITNESS.at[bad].set(jnp.nan))
        assert np.isfinite(shaped).all()
        assert shaped[bad] == shaped.min()


def test_infinities_keep_their_order(shape):
    shaped = shape(FITNESS.at[0].set(jnp.inf).at[5].set(-jnp.inf))
    assert np.isfinite(shaped).all()
    assert shaped[0] == shaped.max()
    assert shaped[5] == shaped.min()


def test_ties_share(shape):
    shaped = shape(jnp.array([1.0, 5.0, 5.0, 5.0, 0.0, 2.0]))
    assert shaped[1] == shaped[2] == shaped[3]
    np.testing.assert_allclose(
        weights.elite(jnp.array([1.0, 5.0, 5.0, 5.0, 0.0, 5.0]), 0.5),
        [0, 0.25, 0.25, 0.25, 0, 0.25],
    )


def test_ranks_ignore_monotone_transformations():
    for name in ("elite", "centered_rank", "utilities"):
        np.testing.assert_array_equal(
            FUNCTIONS[name](FITNESS), FUNCTIONS[name](1000 * jnp.exp(FITNESS))
        )


@pytest.mark.parametrize(
    ("fitness", "expected"),
    [
        ([1.0, 1.0, 1.0], False),
        ([jnp.nan] * 3, False),
        ([jnp.nan, 2.0, 2.0], False),
        ([1.0, 1.0, 1.5], True),
        ([-jnp.inf, 1.0, 1.0], True),
    ],
)
def test_is_informative(fitness, expected):
    assert bool(weights.is_informative(jnp.array(fitness))) is expected
