"""Separable natural evolution strategies: a diagonal Gaussian, in time linear in D."""

import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName, like_utilities


class HParams(NamedTuple):
    sigma: Array | float  # initial std of every coordinate, > 0
    mean_learning_rate: Array | float  # η_μ > 0
    std_learning_rate: Array | float  # factor on η, > 0


class State(NamedTuple):
    mean: Array  # μ [D]
    std: Array  # σ [D]
    hparams: HParams


def init(mean: Array, hparams: HParams) -> State:
    return State(mean=mean, std=jnp.ones_like(mean) * hparams.sigma, hparams=hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # x_i = μ + σ z_i
    z = sampler(key, members, state.mean)
    return state.mean[None] + state.std[None] * z


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler, weights: Weights) -> State:
    d, hparams = state.mean.size, state.hparams

    def gradients(z: Array, u: Array) -> tuple[Array, Array]:
        return u @ z, u @ (z**2 - 1)

    u = like_utilities(weights, fitness)
    mean_gradient, std_gradient = sampler.sum(gradients, key, state.mean, u)
    eta = hparams.std_learning_rate * (3 + math.log(d)) / (5 * math.sqrt(d))
    return State(
        mean=state.mean + hparams.mean_learning_rate * state.std * mean_gradient,
        std=base.keep_in_range(state.std * jnp.exp(eta / 2 * std_gradient)),
        hparams=hparams,
    )


@recorded(of_strategy)
def snes(
    population_size: int,
    *,
    sigma: float = 0.5,
    mean_learning_rate: float = 1.0,
    std_learning_rate: float = 1.0,
    weights: Weights | WeightsName = "utilities",
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Separable NES: natural gradient ascent on mean and standard deviations of each coordinate.

        x_i = μ + σ z_i
        μ ← μ + η_μ σ Σ u_i z_i
        σ ← σ exp(η/2 Σ u_i (z_i² - 1)),    η = (3 + ln d)/(5 √d)

    u are the rank utilities, or other weights that sum to zero. Memory and time are linear in D.

    Args:
      population_size: N, at least 4; `4 + ⌊3 ln D⌋` is the paper's default.
      sigma: the initial standard deviation of every coordinate, > 0.
      mean_learning_rate: η_μ > 0.
      std_learning_rate: factor on η, > 0.
      weights: u, a function `(fitness [N]) -> weights [N]` that sums to zero, or a name:
        `utilities`, `centered_rank`, `z_score`. Scaled to weigh as much as the utilities do.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.snes(population_size=64, sigma=0.1)

    Reference: Schaul, Glasmachers & Schmidhuber, High dimensions and heavy tails for natural
    evolution strategies (GECCO 2011).
    """
    check_positive("sigma", sigma)
    check_positive("mean_learning_rate", mean_learning_rate)
    check_positive("std_learning_rate", std_learning_rate)
    base.check_population_size(population_size, 4)
    return base.bind(
        init,
        ask,
        partial(tell, weights=base.shaping(weights, 0, "fitness is compared with its average")),
        HParams(
            sigma=sigma, mean_learning_rate=mean_learning_rate, std_learning_rate=std_learning_rate
        ),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
