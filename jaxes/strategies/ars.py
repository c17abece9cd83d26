"""Augmented random search: finite differences along random directions, scaled by their spread."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_fraction, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler, Scheme, antithetic, mirrored
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import bounded, elite, to_unit_interval


class HParams(NamedTuple):
    sigma: Array | float  # ν, std of the perturbations, > 0
    learning_rate: Array | float  # α > 0
    elite_fraction: Array | float  # b over the number of directions, in (0, 1]


class State(NamedTuple):
    mean: Array  # θ [D]
    hparams: HParams


def init(mean: Array, hparams: HParams) -> State:
    return State(mean, hparams)


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # Members 2j and 2j + 1 are θ + ν δ_j and θ - ν δ_j.
    return state.mean[None] + state.hparams.sigma * sampler(key, members, state.mean)


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler) -> State:
    hparams = state.hparams
    rewards = bounded(fitness)

    # Weights 1/b for the b directions with the greatest max(r⁺, r⁻), Algorithm 2, line 6
    selected = elite(jnp.maximum(rewards[0::2], rewards[1::2]), hparams.elite_fraction)

    # The step is a ratio of rewards: moving those that are used to [0, 1] changes nothing, and
    # nothing overflows or is lost beside those that are not.
    used = jnp.repeat(selected > 0, 2)
    unit = to_unit_interval(rewards, used)
    r_plus, r_minus = unit[0::2], unit[1::2]
    mean_reward = jnp.sum(selected * (r_plus + r_minus)) / 2
    spread = (r_plus - mean_reward) ** 2 + (r_minus - mean_reward) ** 2
    sigma_R = jnp.sqrt(jnp.sum(selected * spread) / 2)  # of the 2b rewards that are used

    # Line 7: θ ← θ + α/(b σ_R) Σ (r⁺ - r⁻) δ, summed over both members of a pair, ±δ
    each = jnp.stack([selected * r_plus, selected * r_minus], axis=1).reshape(-1)
    step = sampler.sum(lambda delta, w: w @ delta, key, state.mean, each)
    scale = hparams.learning_rate / jnp.where(sigma_R > 0, sigma_R, 1)
    return State(state.mean + scale * step, hparams)


@recorded(of_strategy)
@base.without_weights("it weighs directions by the rewards of both their members")
def ars(
    population_size: int,
    *,
    sigma: float = 0.025,
    learning_rate: float = 0.02,
    elite_fraction: float = 1.0,
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Augmented random search: move along the best random directions, in units of reward's spread.

        θ ← θ + α/(b σ_R) Σ_{j: top b} (r_j⁺ - r_j⁻) δ_j,    r_j^± = F(θ ± ν δ_j),  δ_j ~ N(0, I)

    The top b directions are those with the greatest max(r⁺, r⁻); σ_R is the standard deviation of
    their 2b rewards. V2 is this with observations normalized by the problem
    (`normalize_observations=True`, the default of `jaxes.problems.brax`), V1 without; the paper's
    policy is linear and starts at zero.

    Args:
      population_size: 2 × the number of directions: even.
      sigma: ν, the standard deviation of the perturbations, > 0.
      learning_rate: α > 0.
      elite_fraction: b over the number of directions, in (0, 1]; 1 uses all of them.
      sampling: how the directions are drawn: a scheme of `jaxes.gaussian` but `antithetic`, or its
        name. Each is used with both signs.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.ars(16, sigma=0.025, learning_rate=0.01, elite_fraction=0.5)  # hopper

    Reference: Mania, Guy & Recht, Simple random search provides a competitive approach to
    reinforcement learning (2018), arXiv:1803.07055, Algorithm 2.
    """
    check_positive("sigma", sigma)
    check_positive("learning_rate", learning_rate)
    check_fraction("elite_fraction", elite_fraction)
    base.check_population_size(population_size, 2, even=True)
    single = sampling not in ("antithetic", antithetic)
    check("sampling", sampling, single, "of single directions: they are mirrored already")
    try:
        directions: Scheme = base.scheme(sampling, population_size // 2)
    except ValueError as error:
        if not str(error).startswith("population_size"):
            raise
        raise ValueError(f"{error} directions, half of the population") from error
    return base.bind(
        init,
        ask,
        tell,
        HParams(sigma=sigma, learning_rate=learning_rate, elite_fraction=elite_fraction),
        population_size,
        sampling=mirrored(directions),
        chunk_size=chunk_size,
    )
