"""The cross-entropy method with a diagonal Gaussian and additive variance noise."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_fraction, check_non_negative, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import Weights, WeightsName


class HParams(NamedTuple):
    sigma: Array | float  # initial std of every coordinate, > 0
    elite_fraction: Array | float  # |I|/N, in (0, 1]
    noise: Array | float  # Z_0 ≥ 0, a variance
    noise_decay: Array | float  # decrease of Z a generation, ≥ 0


class State(NamedTuple):
    mean: Array  # μ [D]
    std: Array  # σ [D]
    generation: Array  # t, int32 []
    hparams: HParams


def init(mean: Array, hparams: HParams) -> State:
    std = jnp.full_like(mean, 1) * hparams.sigma
    return State(mean=mean, std=std, generation=jnp.zeros((), jnp.int32), hparams=hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # x_i = μ + σ ε_i  ~ N(μ, diag(σ²))
    epsilon = sampler(key, members, state.mean)
    return state.mean[None] + state.std[None] * epsilon


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler, weights: Weights) -> State:
    def moments(epsilon: Array, w: Array) -> tuple[Array, Array]:
        return w @ epsilon, w @ epsilon**2

    # In units of σ: the elites' mean and variance about it.
    w = weights(fitness, state.hparams.elite_fraction)  # 1/|I| for i in I, else 0
    first, second = sampler.sum(moments, key, state.mean, w)
    variance = jnp.maximum(second - first**2, 0)

    # Szita & Lőrincz (2006): Z_t = max(Z_0 - t·decay, 0) is added to the variance.
    hparams = state.hparams
    t = state.generation.astype(state.mean.dtype)
    added = jnp.maximum(hparams.noise - hparams.noise_decay * t, 0)
    return State(
        mean=state.mean + state.std * first,
        std=base.keep_in_range(jnp.sqrt(state.std**2 * variance + added)),
        generation=state.generation + 1,
        hparams=hparams,
    )


@recorded(of_strategy)
def cem(
    population_size: int,
    *,
    sigma: float = 1.0,
    elite_fraction: float = 0.1,
    noise: float = 0.0,
    noise_decay: float = 0.0,
    weights: Weights | WeightsName = "elite",
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """The (noisy) cross-entropy method: refit a diagonal Gaussian to the best members.

    With I the best `elite_fraction · N` of the members x_i ~ N(μ, diag(σ²)):

        μ  ← 1/|I| Σ_{i∈I} x_i
        σ² ← 1/|I| Σ_{i∈I} (x_i - μ)² + Z_t,    Z_t = max(noise - noise_decay · t, 0)

    Without noise the variance shrinks too early on noisy or deceptive problems; with it the method
    keeps searching (on Tetris, by two orders of magnitude in score).

    Args:
      population_size: N, of which `elite_fraction · N` > 1 are elites; one will do with noise.
      sigma: the initial standard deviation of every coordinate, > 0.
      elite_fraction: |I|/N, in (0, 1].
      noise: Z_0 ≥ 0, a variance. `noise=4` is the paper's constant noise.
      noise_decay: decrease of Z a generation, ≥ 0. `noise=5, noise_decay=0.1` is the paper's
        decreasing noise.
      weights: what the members count in the moments, summing to one: `elite`, `log_rank`, or a
        function `(fitness [N], elite_fraction) -> weights [N]` declared with `weights.sums_to(1)`.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.cem(population_size=100, sigma=10.0, noise=4.0)

    Reference: Szita & Lőrincz, Learning Tetris using the noisy cross-entropy method (2006).
    """
    check_positive("sigma", sigma)
    check_fraction("elite_fraction", elite_fraction)
    check_non_negative("noise", noise)
    check_non_negative("noise_decay", noise_decay)
    # One elite alone has no variance; a second one counts in part.
    base.check_elites(population_size, elite_fraction, 1 if noise > 0 else 1 + 1e-6)
    return base.bind(
        init,
        ask,
        partial(tell, weights=base.shaping(weights, 1, "moments are averages of members")),
        HParams(sigma=sigma, elite_fraction=elite_fraction, noise=noise, noise_decay=noise_decay),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
