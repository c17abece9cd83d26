"""Exponential natural evolution strategies: a full covariance, moved by a matrix exponential."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.checks import check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName, like_utilities


class HParams(NamedTuple):
    sigma: Array | float  # initial step size, > 0
    mean_learning_rate: Array | float  # η_μ > 0
    shape_learning_rate: Array | float  # factor on η, > 0


class State(NamedTuple):
    mean: Array  # μ [D]
    sigma: Array  # σ []
    B: Array  # [D, D], |det B| = 1: the distribution is N(μ, σ² B Bᵀ)
    hparams: HParams


# Of the logarithm of B, in a generation: weights without a bound would overflow its exponential.
MAX_STEP = 10.0


def init(mean: Array, hparams: HParams) -> State:
    B = jnp.eye(mean.size, dtype=mean.dtype)
    return State(mean=mean, sigma=jnp.asarray(hparams.sigma), B=B, hparams=hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    z = sampler(key, members, state.mean)
    return state.mean[None] + state.sigma * z @ state.B.T  # x_i = μ + σ B z_i


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler, weights: Weights) -> State:
    d, hparams = state.mean.size, state.hparams

    def gradients(z: Array, u: Array) -> tuple[Array, Array]:
        return u @ z, (u[:, None] * z).T @ z

    # G_δ = Σ u_i z_i and G_M = Σ u_i (z_i z_iᵀ - I), where Σ u_i = 0
    u = like_utilities(weights, fitness)
    G_delta, G_M = sampler.sum(gradients, key, state.mean, u)
    G_sigma = jnp.trace(G_M) / d
    G_B = G_M - G_sigma * jnp.eye(d, dtype=G_M.dtype)

    eta = hparams.shape_learning_rate * 0.6 * (3 + math.log(d)) / (d * math.sqrt(d))
    step = eta / 2 * G_B
    step = step * jnp.minimum(1, MAX_STEP / jnp.max(jnp.abs(step)))
    # The exponential of the matrix, not of its elements: only so can B rotate.
    B = state.B @ parallel.one_by_one(jax.scipy.linalg.expm)(step)
    return State(
        mean=state.mean + hparams.mean_learning_rate * state.sigma * (state.B @ G_delta),
        sigma=base.keep_in_range(state.sigma * jnp.exp(eta / 2 * G_sigma)),
        B=B * jnp.minimum(1, base.largest(B.dtype) / jnp.max(jnp.abs(B))),  # 1, but at infinity
        hparams=hparams,
    )


@recorded(of_strategy)
def xnes(
    population_size: int,
    *,
    sigma: float = 0.5,
    mean_learning_rate: float = 1.0,
    shape_learning_rate: float = 1.0,
    weights: Weights | WeightsName = "utilities",
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Exponential NES: natural gradient ascent on mean, step size and shape of a full Gaussian.

        x_i = μ + σ B z_i
        μ ← μ + η_μ σ B G_δ,                G_δ = Σ u_i z_i
        σ ← σ exp(η/2 G_σ),                 G_σ = tr(G_M)/d,  G_M = Σ u_i (z_i z_iᵀ - I)
        B ← B expm(η/2 (G_M - G_σ I)),      η = 0.6 (3 + ln d)/(d √d)

    u are the rank utilities, or other weights that sum to zero. Invariant under rotations and, with
    ranks, monotone transformations of fitness. Memory is D², time D³ a generation.

    Args:
      population_size: N, at least 4; `4 + ⌊3 ln D⌋` is the paper's default.
      sigma: the initial step size, > 0.
      mean_learning_rate: η_μ > 0.
      shape_learning_rate: factor on η, > 0.
      weights: u, a function `(fitness [N]) -> weights [N]` that sums to zero, or a name:
        `utilities`, `centered_rank`, `z_score`. Scaled to weigh as much as the utilities do.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.xnes(population_size=16, sigma=0.3)

    Reference: Glasmachers et al., Exponential natural evolution strategies (GECCO 2010).
    """
    check_positive("sigma", sigma)
    check_positive("mean_learning_rate", mean_learning_rate)
    check_positive("shape_learning_rate", shape_learning_rate)
    base.check_population_size(population_size, 4)
    return base.bind(
        init,
        ask,
        partial(tell, weights=base.shaping(weights, 0, "fitness is compared with its average")),
        HParams(
            sigma=sigma,
            mean_learning_rate=mean_learning_rate,
            shape_learning_rate=shape_learning_rate,
        ),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
