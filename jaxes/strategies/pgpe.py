"""Parameter-exploring policy gradients: likelihood-ratio gradients for mean and deviations."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from jaxes import optimizers
from jaxes.checks import check_non_negative, check_number, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.optimizers import Optimizer, OptimizerName
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName


class HParams(NamedTuple):
    sigma: Array | float  # initial std of every coordinate, > 0
    learning_rate: Array | float  # step size of the optimizer, > 0
    std_learning_rate: Array | float  # η_σ ≥ 0
    std_max_change: Array | float  # c, greatest relative change of σ in a generation, in [0, 1)


class State(NamedTuple):
    mean: Array  # μ [D]
    std: Array  # σ [D]
    optimizer: optax.OptState
    hparams: HParams


def init(mean: Array, hparams: HParams, *, optimizer: Optimizer) -> State:
    return State(
        mean=mean,
        std=jnp.ones_like(mean) * hparams.sigma,
        optimizer=optimizer(hparams.learning_rate).init(mean),
        hparams=hparams,
    )


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # θ_i = μ + σ z_i, in pairs ±z
    return state.mean[None] + state.std[None] * sampler(key, members, state.mean)


def tell(
    key: Array,
    state: State,
    fitness: Array,
    *,
    sampler: Sampler,
    optimizer: Optimizer,
    weights: Weights,
) -> State:
    mean, std, hparams = state.mean, state.std, state.hparams

    def gradients(z: Array, r: Array) -> tuple[Array, Array]:
        return r @ z, r @ (z**2 - 1)

    # With the reward baseline b = 0, because r sums to zero, summing over a pair ±z gives
    # (r⁺ - r⁻) z for the mean and (r⁺ + r⁻)(z² - 1) for the deviations (Sehnke et al., eq. 11-16).
    r = weights(fitness) / fitness.size
    mean_gradient, std_gradient = sampler.sum(gradients, key, mean, r)

    mean, optimizer_state = optimizers.ascend(
        optimizer(hparams.learning_rate), std * mean_gradient, state.optimizer, mean
    )
    change = hparams.std_learning_rate * std_gradient  # in units of σ
    change = jnp.clip(change, -hparams.std_max_change, hparams.std_max_change)
    return State(
        mean=mean,
        std=base.keep_in_range(std * (1 + change)),
        optimizer=optimizer_state,
        hparams=hparams,
    )


@recorded(of_strategy)
def pgpe(
    population_size: int,
    *,
    sigma: float = 0.1,
    learning_rate: float = 0.05,
    std_learning_rate: float = 0.1,
    std_max_change: float = 0.2,
    optimizer: Optimizer | OptimizerName = "clipup",
    weights: Weights | WeightsName = "centered_rank",
    sampling: base.Sampling = "antithetic",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """PGPE: policy gradients of a diagonal Gaussian over parameters, with symmetric sampling.

        θ_i = μ + σ z_i,    r = weights(F(θ_1..N)),  Σ r_i = 0
        μ ← optimizer(μ, 1/N Σ r_i σ z_i)
        σ ← σ + σ clip(η_σ/N Σ r_i (z_i² - 1), ±c)

    With ClipUp a step of the mean has a known length, and one number sets the rest: for a greatest
    step length `speed`, the paper takes `learning_rate = speed/2` and an initial radius
    `sigma · √D` of 15 to 18 `speed`.

    Args:
      population_size: N, at least 2; even with antithetic pairs.
      sigma: the initial standard deviation of every coordinate, > 0.
      learning_rate: step size of the optimizer, > 0; with ClipUp, half the longest step.
      std_learning_rate: η_σ ≥ 0; 0 keeps σ as it is.
      std_max_change: c, the greatest relative change of σ in a generation, in [0, 1).
      optimizer: a function from the learning rate to an optax optimizer, or a name.
      weights: a function `(fitness [N]) -> weights [N]` that sums to zero, or a name:
        `centered_rank`, `z_score`, `utilities`.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.pgpe(population_size=200, sigma=0.1, learning_rate=0.075)

    Reference: Sehnke et al., Parameter-exploring policy gradients, Neural Networks 23 (2010);
    Toklu, Liskowski & Srivastava, ClipUp (PPSN 2020), arXiv:2008.02387.
    """
    check_positive("sigma", sigma)
    check_positive("learning_rate", learning_rate)
    check_non_negative("std_learning_rate", std_learning_rate)
    check_number("std_max_change", std_max_change, lambda change: 0 <= change < 1, "in [0, 1)")
    base.check_population_size(population_size, 2)
    optimizer = optimizers.resolve(optimizer)
    weights = base.shaping(weights, 0, "rewards are compared with their average, the baseline")
    return base.bind(
        partial(init, optimizer=optimizer),
        ask,
        partial(tell, optimizer=optimizer, weights=weights),
        HParams(
            sigma=sigma,
            learning_rate=learning_rate,
            std_learning_rate=std_learning_rate,
            std_max_change=std_max_change,
        ),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
