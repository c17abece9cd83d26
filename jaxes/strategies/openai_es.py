"""Natural evolution strategies with a fixed step size: OpenAI-ES and the plain NES within it."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from jaxes import optimizers
from jaxes.checks import check_non_negative, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.optimizers import Optimizer, OptimizerName
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName


class HParams(NamedTuple):
    sigma: Array | float  # std of the perturbations, > 0
    learning_rate: Array | float  # step size of the optimizer, > 0
    weight_decay: Array | float  # coefficient of the L2 penalty, ≥ 0


class State(NamedTuple):
    mean: Array  # μ [D]
    optimizer: optax.OptState
    hparams: HParams


def init(mean: Array, hparams: HParams, *, optimizer: Optimizer) -> State:
    optimizer_state = optimizer(hparams.learning_rate).init(mean)
    return State(mean=mean, optimizer=optimizer_state, hparams=hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # θ_i = μ + σ ε_i
    epsilon = sampler(key, members, state.mean)
    return state.mean[None] + state.hparams.sigma * epsilon


def tell(
    key: Array,
    state: State,
    fitness: Array,
    *,
    sampler: Sampler,
    optimizer: Optimizer,
    weights: Weights,
) -> State:
    mean, hparams = state.mean, state.hparams

    # ∇_μ E[F] ≈ 1/(nσ) Σ F_i ε_i                          (Salimans et al. 2017, Algorithm 1)
    weighted_noise = sampler.sum(lambda epsilon, w: w @ epsilon, key, mean, weights(fitness))
    gradient = weighted_noise / (fitness.size * hparams.sigma)
    gradient = gradient - hparams.weight_decay * mean
    # An optimizer takes squares: as a whole, so that it keeps its direction, the gradient is kept
    # below 2e17 (in float32), however large the fitness was.
    limit = float(jnp.finfo(mean.dtype).max)
    gradient = jnp.clip(gradient, -limit, limit)
    gradient = gradient * jnp.minimum(1, limit**0.45 / jnp.max(jnp.abs(gradient)))

    mean, optimizer_state = optimizers.ascend(
        optimizer(hparams.learning_rate), gradient, state.optimizer, mean
    )
    return State(mean=mean, optimizer=optimizer_state, hparams=hparams)


@recorded(of_strategy)
def openai_es(
    population_size: int,
    *,
    sigma: float = 0.02,
    learning_rate: float = 0.01,
    weight_decay: float = 0.005,
    optimizer: Optimizer | OptimizerName = "adam",
    weights: Weights | WeightsName = "centered_rank",
    sampling: base.Sampling = "antithetic",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """OpenAI-ES: stochastic gradient ascent on the fitness of a Gaussian of fixed width.

        θ_i = μ + σ ε_i
        g   = 1/(nσ) Σ_i w_i ε_i - weight_decay · μ,    w = weights(F(θ_1..n))
        μ   ← optimizer(μ, g)

    The defaults are those released for humanoid; there g is not divided by σ, which Adam does not
    notice, but the weight decay does.

    Args:
      population_size: N, at least 2; even with antithetic pairs.
      sigma: standard deviation of the perturbations, > 0; it stays as it is.
      learning_rate: step size of the optimizer, > 0.
      weight_decay: coefficient of the L2 penalty, ≥ 0.
      optimizer: a function from the learning rate to an optax optimizer, such as `optax.adam` or
        `lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))`, or a name.
      weights: `(fitness [N]) -> weights [N]`, or a name in `jaxes.weights`; `centered_rank` is
        invariant under monotone transformations of fitness, `raw` is the fitness itself.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name. With `antithetic`
        members 2j and 2j + 1 are μ + σε and μ - σε.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.openai_es(population_size=256, sigma=0.05, optimizer=optax.adam)

    Reference: Salimans et al., Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning (2017), arXiv:1703.03864.
    """
    check_positive("sigma", sigma)
    check_positive("learning_rate", learning_rate)
    check_non_negative("weight_decay", weight_decay)
    base.check_population_size(population_size, 2)
    optimizer = optimizers.resolve(optimizer)
    return base.bind(
        partial(init, optimizer=optimizer),
        ask,
        partial(tell, optimizer=optimizer, weights=base.shaping(weights)),
        HParams(sigma=sigma, learning_rate=learning_rate, weight_decay=weight_decay),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )


@recorded(of_strategy)
def nes(
    population_size: int,
    *,
    sigma: float = 0.1,
    learning_rate: float = 0.01,
    weights: Weights | WeightsName = "raw",
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Natural evolution strategy with a fixed σ: raw fitness, plain gradient ascent, no pairs.

        μ ← μ + α/(nσ) Σ_i F_i ε_i

    Args:
      population_size: N, at least 2.
      sigma: standard deviation σ of the perturbations, > 0.
      learning_rate: α > 0. With raw fitness it has units: scale it with the problem.
      weights: what takes the place of F_i: a function `(fitness [N]) -> weights [N]`, or a name.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.nes(population_size=100, sigma=0.1, learning_rate=0.001)

    Reference: Salimans et al. (2017), Algorithm 1, arXiv:1703.03864.
    """
    return openai_es(
        population_size,
        sigma=sigma,
        learning_rate=learning_rate,
        weight_decay=0.0,
        optimizer="sgd",
        weights=weights,
        sampling=sampling,
        chunk_size=chunk_size,
    )
