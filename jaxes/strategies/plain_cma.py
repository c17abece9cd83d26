"""Plain covariance matrix adaptation: mean and full covariance refitted to the elites."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_fraction, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName


class HParams(NamedTuple):
    sigma: Array | float  # initial std in every direction, > 0
    learning_rate: Array | float  # α, in (0, 1]
    elite_fraction: Array | float  # share of the members that are elites, in (0, 1]
    epsilon: Array | float  # ε > 0, a variance


class State(NamedTuple):
    mean: Array  # μ [D]
    A: Array  # [D, D], the symmetric square root of the covariance: Σ = A²
    hparams: HParams


def init(mean: Array, hparams: HParams) -> State:
    A = hparams.sigma * jnp.eye(mean.size, dtype=mean.dtype)
    return State(mean=mean, A=A, hparams=hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    z = sampler(key, members, state.mean)
    return state.mean[None] + z @ state.A.T  # θ_i = μ + A z_i  ~ N(μ, Σ)


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler, weights: Weights) -> State:
    def moments(z: Array, w: Array) -> tuple[Array, Array]:
        return w @ z, (w[:, None] * z).T @ z

    hparams = state.hparams
    w = weights(fitness, hparams.elite_fraction)
    z_mean, z_square = sampler.sum(moments, key, state.mean, w)
    elite_covariance = state.A @ (z_square - jnp.outer(z_mean, z_mean)) @ state.A.T

    diagonal = jnp.diag(jnp.full_like(state.mean, hparams.epsilon))
    _, B, D = base.eigendecompose(elite_covariance + diagonal)
    return State(
        mean=state.mean + hparams.learning_rate * (state.A @ z_mean),
        A=(B * base.keep_in_range(D)[None]) @ B.T,  # symmetric: signs of eigenvectors do not matter
        hparams=hparams,
    )


@recorded(of_strategy)
def plain_cma(
    population_size: int,
    *,
    sigma: float = 0.5,
    learning_rate: float = 1.0,
    elite_fraction: float = 0.25,
    epsilon: float = 1e-4,
    weights: Weights | WeightsName = "elite",
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """The lecture's plain covariance matrix adaptation: a full Gaussian refitted to the elites.

        μ ← μ + α Σ w_i (θ_i - μ)
        Σ ← Cov(elites) + ε I,    Cov(elites) = Σ w_i (θ_i - θ̄)(θ_i - θ̄)ᵀ,  θ̄ = Σ w_i θ_i

    No memory of earlier generations: simple, but it needs many members (several D of them elites)
    where `cma_es` does with few. ε keeps it searching; the final spread is of the order √ε.

    Args:
      population_size: N, with at least 2 elites among them.
      sigma: the initial standard deviation in every direction, > 0.
      learning_rate: α, in (0, 1].
      elite_fraction: the share of the members that are elites, in (0, 1].
      epsilon: ε > 0, a variance.
      weights: w, summing to one: `elite`, `log_rank`, or a function `(fitness [N],
        elite_fraction) -> weights [N]` declared with `weights.sums_to(1)`.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.plain_cma(population_size=200, sigma=1.0, elite_fraction=0.2)

    Reference: the μ-weighted form before evolution paths, as in Rubinstein & Kroese, The
    Cross-Entropy Method (2004), chapter 5.
    """
    check_positive("sigma", sigma)
    check_fraction("learning_rate", learning_rate)
    check_fraction("elite_fraction", elite_fraction)
    check_positive("epsilon", epsilon)
    base.check_elites(population_size, elite_fraction, 2)
    return base.bind(
        init,
        ask,
        partial(tell, weights=base.shaping(weights, 1, "moments are averages of members")),
        HParams(
            sigma=sigma, learning_rate=learning_rate, elite_fraction=elite_fraction, epsilon=epsilon
        ),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
