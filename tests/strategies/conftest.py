import jax
import pytest


@pytest.fixture(autouse=True)
def rank_promotion_raises():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
