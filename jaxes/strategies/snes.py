"""Separable natural evolution strategies: a diagonal Gaussian, in time linear in D."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes import weights
from jaxes.checks import check
from jaxes.core import Strategy
from jaxes.gaussian import noise, sum_over_members
from jaxes.strategies import base


class HParams(NamedTuple):
    sigma: Array | float
    mean_learning_rate: Array | float
    std_learning_rate: Array | float


class State(NamedTuple):
    mean: Array  # μ [D]
    std: Array  # σ [D]
    hparams: HParams


def init(mean: Array, hparams: HParams) -> State:
    return State(mean, jnp.ones_like(mean) * hparams.sigma, hparams)


def ask(key: Array, state: State, members: Array) -> Array:
    # x_i = μ + σ z_i
    z = noise(key, members, state.mean.size, state.mean.dtype)
    return state.mean[None] + state.std[None] * z


def tell(key: Array, state: State, fitness: Array) -> State:
    d, hparams = state.mean.size, state.hparams
    u = weights.utilities(fitness)

    def gradients(members: Array) -> tuple[Array, Array]:
        z = noise(key, members, d, state.mean.dtype)
        return u[members] @ z, u[members] @ (z**2 - 1)

    mean_gradient, std_gradient = sum_over_members(gradients, fitness.size)
    eta = hparams.std_learning_rate * (3 + math.log(d)) / (5 * math.sqrt(d))
    return State(
        mean=state.mean + hparams.mean_learning_rate * state.std * mean_gradient,
        std=base.keep_in_range(state.std * jnp.exp(eta / 2 * std_gradient)),
        hparams=hparams,
    )


def snes(
    population_size: int,
    *,
    sigma: float = 0.5,
    mean_learning_rate: float = 1.0,
    std_learning_rate: float = 1.0,
) -> Strategy:
    """Separable NES: natural gradient ascent on mean and standard deviations of each coordinate.

        x_i = μ + σ z_i
        μ ← μ + η_μ σ Σ u_i z_i
        σ ← σ exp(η/2 Σ u_i (z_i² - 1)),    η = (3 + ln d)/(5 √d)

    u are the rank utilities. Memory and time are linear in D.

    Args:
      population_size: N, at least 4; `4 + ⌊3 ln D⌋` is the paper's default.
      sigma: the initial standard deviation of every coordinate, > 0.
      mean_learning_rate: η_μ > 0.
      std_learning_rate: factor on η, > 0.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.snes(population_size=64, sigma=0.1)

    Reference: Schaul, Glasmachers & Schmidhuber, High dimensions and heavy tails for natural
    evolution strategies (GECCO 2011).
    """
    check("sigma", sigma, sigma > 0, "positive")
    check("mean_learning_rate", mean_learning_rate, mean_learning_rate > 0, "positive")
    check("std_learning_rate", std_learning_rate, std_learning_rate > 0, "positive")
    base.check_population_size(population_size, 4)
    hparams = HParams(sigma, mean_learning_rate, std_learning_rate)
    return base.bind(init, ask, tell, hparams, population_size)
