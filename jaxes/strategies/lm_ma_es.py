"""LM-MA-ES: covariance adaptation with O(D log D) memory, as a product of rank-one maps."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base, cma_es
from jaxes.strategies.cma_es import HParams
from jaxes.weights import by_rank


class State(NamedTuple):
    mean: Array  # y [D]
    sigma: Array  # σ []
    M: Array  # [m, D], direction vectors m_j: paths over 1, 4, 16, ... × n/λ generations
    p_sigma: Array  # [D], conjugate evolution path
    generation: Array  # t, int32 []
    hparams: HParams


class Constants(NamedTuple):
    weights: np.ndarray  # [N], by rank; they sum to 1
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_d: np.ndarray  # [m], weights of the directions in a member
    c_c: np.ndarray  # [m], learning rates of the directions
    chi_n: float


def constants(population_size: int, dim: int) -> Constants:
    """Table I of the paper, for λ ≪ n; where λ is not, rates are bounded and σ is damped."""
    lam, n = population_size, dim
    mu = lam // 2
    raw = np.maximum(0, np.log(mu + 0.5) - np.log(np.arange(1, lam + 1)))
    weights = raw / raw.sum()
    mu_eff = float(1 / (weights**2).sum())
    j = np.arange(num_directions(dim))
    c_sigma = min(0.5, 2 * lam / n)
    return Constants(
        weights=weights,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=cma_es.damping(c_sigma, mu_eff, n),
        # The paper's 1/(1.5^j n), but where μ_eff > n: then ‖m_j‖² grows to μ_eff.
        c_d=1 / (1.5**j * max(n, mu_eff, 2)),
        c_c=np.minimum(0.5, lam / (4.0**j * n)),
        chi_n=cma_es.expected_norm(n),
    )


def num_directions(dim: int) -> int:
    """m = 4 + ⌊3 ln n⌋."""
    return 4 + int(3 * math.log(dim))


def init(mean: Array, hparams: HParams) -> State:
    return State(
        mean=mean,
        sigma=jnp.asarray(hparams.sigma),
        M=jnp.zeros((num_directions(mean.size), mean.size), mean.dtype),
        p_sigma=jnp.zeros_like(mean),
        generation=jnp.zeros((), jnp.int32),
        hparams=hparams,
    )


def transform(c: Constants, state: State, z: Array) -> Array:
    """d_i `[M, D]`: z_i after (1 - c_{d,j}) I + c_{d,j} m_j m_jᵀ for each direction j ≤ t."""

    def apply(d: Array, direction: tuple[Array, Array, Array]) -> tuple[Array, None]:
        j, m_j, c_j = direction
        moved = (1 - c_j) * d + c_j * (d @ m_j)[:, None] * m_j[None]
        return jnp.where(j < state.generation, moved, d), None

    c_d = jnp.asarray(c.c_d, z.dtype)
    return jax.lax.scan(apply, z, (jnp.arange(c_d.size, dtype=jnp.int32), state.M, c_d))[0]


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    c = constants(sampler.population_size, state.mean.size)
    d = transform(c, state, sampler(key, members, state.mean))
    return state.mean[None] + state.sigma * d


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler) -> State:
    c, dtype = constants(fitness.size, state.mean.size), state.mean.dtype
    w = by_rank(fitness, jnp.asarray(c.weights, dtype))
    z_w = sampler.sum(lambda z, w: w @ z, key, state.mean, w)
    d_w = transform(c, state, z_w[None])[0]  # a linear map: ⟨d⟩_w is the map of ⟨z⟩_w

    sigma, p_sigma, _ = cma_es.control_step_size(c, state, whitened=z_w)
    c_c = jnp.asarray(c.c_c, dtype)[:, None]
    M = (1 - c_c) * state.M + jnp.sqrt(c.mu_eff * c_c * (2 - c_c)) * z_w[None]
    return State(
        mean=state.mean + state.sigma * d_w,
        sigma=sigma,
        M=M,
        p_sigma=p_sigma,
        generation=state.generation + 1,
        hparams=state.hparams,
    )


@recorded(of_strategy)
@base.without_weights("its learning rates follow from its weights")
def lm_ma_es(
    population_size: int,
    *,
    sigma: float = 0.5,
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Limited-memory matrix adaptation: CMA-ES's ideas for millions of parameters.

        d_i = Π_j ((1 - c_{d,j}) I + c_{d,j} m_j m_jᵀ) z_i,    θ_i = y + σ d_i
        y ← y + σ Σ w_i d_i
        m_j ← (1 - c_{c,j}) m_j + √(μ_eff c_{c,j} (2 - c_{c,j})) Σ w_i z_i
        p_σ ← (1 - c_σ) p_σ + √(μ_eff c_σ (2 - c_σ)) Σ w_i z_i
        σ ← σ exp(c_σ/d_σ (‖p_σ‖/E‖N(0, I)‖ - 1))

    m = 4 + ⌊3 ln D⌋ direction vectors follow the search on time scales that grow by factors of
    four. Unlike diagonal strategies it learns directions that are no axes; unlike CMA-ES its
    memory is m D. Rates: c_σ = min(1/2, 2λ/n), c_{c,j} = min(1/2, λ/(4^j n)) and
    c_{d,j} = 1/(1.5^j max(n, μ_eff, 2)). The paper has ‖p_σ‖²/n and no d_σ; here both are those of
    CMA-ES, and rates are bounded, which allows populations larger than D.

    Args:
      population_size: λ, at least 4; `4 + ⌊3 ln D⌋` is the paper's default.
      sigma: the initial step size, > 0.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.lm_ma_es(population_size=32, sigma=0.1)

    Reference: Loshchilov, Glasmachers & Beyer, Large scale black-box optimization by
    limited-memory matrix adaptation, IEEE Trans. Evolutionary Computation 23 (2019),
    arXiv:1705.06693, Algorithm 1.
    """
    check_positive("sigma", sigma)
    base.check_population_size(population_size, 4)
    return base.bind(
        init, ask, tell, HParams(sigma), population_size, sampling=sampling, chunk_size=chunk_size
    )
