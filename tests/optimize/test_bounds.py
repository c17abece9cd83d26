"""The box: a smooth map onto it that reaches its corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes.optimize.bounds import Box

BOXES = {
    "both": (-1.0, 3.0),
    "narrow": (5.0, 5.1),
    "below": (-2.0, np.inf),
    "above": (-np.inf, 0.5),
    "none": (-np.inf, np.inf),
    "far": (1000.0, 1001.0),
}


@pytest.fixture(params=sorted(BOXES))
def box(request):
    with jax.enable_x64(True):
        yield Box(*(jnp.array([bound]) for bound in BOXES[request.param]))


def inside(box, y):
    return np.array(jax.vmap(lambda each: box.inside(each[None])[0])(jnp.asarray(y)))


def test_never_leaves_the_box(box):
    x = inside(box, np.linspace(-3000, 3000, 20_001))
    assert np.isfinite(x).all()
    assert (x >= box.low).all()
    assert (x <= box.high).all()


def test_reaches_both_ends_and_everything_between(box):
    low = max(float(box.low[0]), -10.0)
    high = min(float(box.high[0]), 1010.0)
    for x in np.linspace(low, high, 101):
        y = box.outside(jnp.array([x]))
        np.testing.assert_allclose(box.inside(y), x, rtol=0, atol=1e-12 * max(1, abs(x)))
        assert np.isfinite(y).all()


def test_is_smooth(box):
    """Continuous with a continuous derivative: no jump in differences of differences."""
    centre = np.clip(0.0, box.low[0], box.high[0])
    y, step = np.linspace(centre - 8, centre + 8, 160_001, retstep=True)
    slope = np.diff(inside(box, y)) / step
    assert np.abs(slope).max() <= 1 + 1e-6
    assert np.abs(np.diff(slope)).max() < 0.05


def test_is_the_identity_in_the_middle():
    box = Box(jnp.array([-1.0]), jnp.array([3.0]))
    y = np.linspace(-0.85, 2.75, 50, dtype=np.float32)
    np.testing.assert_array_equal(inside(box, y), y)


def test_the_slope_is_zero_at_a_bound():
    with jax.enable_x64(True):
        box = Box(jnp.array([0.0]), jnp.array([1.0]))
        y = float(box.outside(jnp.array([0.0]))[0])
        np.testing.assert_allclose(inside(box, [y - 1e-4, y + 1e-4]), 1e-8 / 4 / 0.05, rtol=1e-6)


@pytest.mark.parametrize("width", [1e3, 1e6, 1e9, 1e20, 1e37])
def test_a_far_bound_costs_no_digits_at_the_near_one(width):
    """y and its mirror image in low - a give the same x, in float32 as well."""
    distance = np.linspace(0, 3, 100, dtype=np.float32)
    left = np.float32(-0.05)
    for side in (1, -1):
        bounds = sorted([0.0, side * width])
        box = Box(*(jnp.array([bound], jnp.float32) for bound in bounds))
        y = side * (left + np.stack([distance, -distance]))
        there, back = side * np.stack([inside(box, row) for row in y])
        np.testing.assert_allclose(back, there, atol=1e-6)
        np.testing.assert_allclose(there[distance > 0.1], (side * y[0])[distance > 0.1])
