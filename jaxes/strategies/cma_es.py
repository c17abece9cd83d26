"""CMA-ES with a full covariance matrix and active (negative) recombination weights.

Equation numbers and symbols: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxes.checks import check
from jaxes.core import Strategy
from jaxes.gaussian import noise, sum_over_members
from jaxes.strategies import base
from jaxes.weights import by_rank


class HParams(NamedTuple):
    sigma: Array | float


class State(NamedTuple):
    mean: Array  # m [D]
    sigma: Array  # σ []
    C: Array  # [D, D], the distribution is N(m, σ²C)
    p_sigma: Array  # [D], conjugate evolution path: N(0, I) under neutral selection
    p_c: Array  # [D], evolution path
    B: Array  # [D, D], columns are eigenvectors of C: C = B diag(D²) Bᵀ
    D: Array  # [D], square roots of the eigenvalues of C
    generation: Array  # g, int32 []
    hparams: HParams


class Constants(NamedTuple):
    weights: np.ndarray  # [N], by rank; the positive ones sum to 1
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi_n: float
    eigen_gap: int  # generations between two eigendecompositions


def constants(population_size: int, dim: int) -> Constants:
    """The default strategy parameters (Table 1), all from λ and n."""
    lam, n = population_size, dim
    mu = lam // 2
    raw = np.log((lam + 1) / 2) - np.log(np.arange(1, lam + 1))  # (49)
    mu_eff = float(raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum())  # Table 1
    mu_eff_minus = float(raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum())

    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)  # (57)
    # (58), α_cov = 2; 1e-8 keeps (52) positive where λ is large.
    c_mu = min(1 - c_1 - 1e-8, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))
    alpha_minus = min(
        1 + c_1 / c_mu,  # (50)
        1 + 2 * mu_eff_minus / (mu_eff + 2),  # (51)
        (1 - c_1 - c_mu) / (n * c_mu),  # (52), keeps C positive definite
    )
    positive, negative = raw > 0, raw < 0
    weights = np.where(
        positive,
        raw / raw[positive].sum(),
        alpha_minus * raw / -raw[negative].sum(),
    )  # (53)

    c_sigma = (mu_eff + 2) / (n + mu_eff + 5)  # (55)
    return Constants(
        weights=weights,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma,  # (55)
        c_c=(4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n),  # (56)
        c_1=c_1,
        c_mu=c_mu,
        chi_n=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2)),  # E‖N(0, I)‖
        eigen_gap=max(1, int(1 / ((c_1 + c_mu) * n * 10))),  # B.2, as in pycma
    )


def init(mean: Array, hparams: HParams) -> State:
    zeros, identity = jnp.zeros_like(mean), jnp.eye(mean.size, dtype=mean.dtype)
    return State(
        mean=mean,
        sigma=jnp.asarray(hparams.sigma),
        C=identity,
        p_sigma=zeros,
        p_c=zeros,
        B=identity,
        D=jnp.ones_like(mean),
        generation=jnp.zeros((), jnp.int32),
        hparams=hparams,
    )


def ask(key: Array, state: State, members: Array) -> Array:
    z = noise(key, members, state.mean.size, state.mean.dtype)  # ~ N(0, I)   (38)
    y = (z * state.D[None]) @ state.B.T  # ~ N(0, C)   (39)
    return state.mean[None] + state.sigma * y  # ~ N(m, σ²C)   (40)


def tell(key: Array, state: State, fitness: Array) -> State:
    n, dtype = state.mean.size, state.mean.dtype
    c = constants(fitness.size, n)
    w = by_rank(fitness, jnp.asarray(c.weights, dtype))

    def moments(members: Array) -> tuple[Array, Array]:
        z = noise(key, members, n, dtype)
        y = (z * state.D[None]) @ state.B.T
        # (46): w°_i = w_i, or w_i n/‖C^{-1/2} y_i‖² where negative; and C^{-1/2} y_i = B z_i.
        w_i = w[members]
        w_circle = w_i * jnp.where(w_i >= 0, 1, n / (jnp.sum(z**2, axis=1) + 1e-8))
        return jnp.maximum(w_i, 0) @ z, (y * w_circle[:, None]).T @ y

    z_w, rank_mu = sum_over_members(moments, fitness.size)

    # Selection and recombination (41), (42), with c_m = 1
    y_w = state.B @ (state.D * z_w)
    mean = state.mean + state.sigma * y_w

    # Step-size control (43), (44); C^{-1/2} ⟨y⟩_w = B ⟨z⟩_w
    whitened = state.B @ z_w
    p_sigma = (1 - c.c_sigma) * state.p_sigma + math.sqrt(
        c.c_sigma * (2 - c.c_sigma) * c.mu_eff
    ) * whitened
    norm_p_sigma = jnp.linalg.norm(p_sigma)
    sigma = state.sigma * jnp.exp(c.c_sigma / c.d_sigma * (norm_p_sigma / c.chi_n - 1))

    # Covariance matrix adaptation (45), (47). Here g counts this generation too.
    generation = state.generation + 1
    correction = jnp.sqrt(1 - (1 - c.c_sigma) ** (2 * (generation.astype(dtype) + 1)))
    h_sigma = (norm_p_sigma / correction < (1.4 + 2 / (n + 1)) * c.chi_n).astype(dtype)
    p_c = (1 - c.c_c) * state.p_c + h_sigma * math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * y_w
    delta_h = (1 - h_sigma) * c.c_c * (2 - c.c_c)
    C = (
        (1 + c.c_1 * delta_h - c.c_1 - c.c_mu * float(c.weights.sum())) * state.C
        + c.c_1 * jnp.outer(p_c, p_c)
        + c.c_mu * rank_mu
    )

    C, B, D = _decompose_every(c.eigen_gap, generation, C, state.B, state.D)
    return State(
        mean=mean,
        sigma=base.keep_in_range(sigma),
        C=C,
        p_sigma=p_sigma,
        p_c=p_c,
        B=B,
        D=D,
        generation=generation,
        hparams=state.hparams,
    )


def _decompose_every(
    gap: int, generation: Array, C: Array, B: Array, D: Array
) -> tuple[Array, Array, Array]:
    """`C = B diag(D²) Bᵀ`, brought up to date every `gap` generations."""

    def decompose(C: Array, B: Array, D: Array) -> tuple[Array, Array, Array]:
        C = (C + C.T) / 2
        eigenvalues, B = jnp.linalg.eigh(C, symmetrize_input=False)
        return C, B, jnp.sqrt(jnp.maximum(eigenvalues, _floor(eigenvalues[-1], C.dtype)))

    if gap == 1:
        return decompose(C, B, D)
    return jax.lax.cond(generation % gap == 0, decompose, lambda *old: old, C, B, D)


def _floor(largest: Array, dtype: DTypeLike) -> Array:
    """The least eigenvalue that rounding leaves meaningful, and never zero."""
    precision = jnp.finfo(dtype)
    return jnp.maximum(precision.eps * largest, precision.tiny)


def cma_es(population_size: int, *, sigma: float = 0.5) -> Strategy:
    """Covariance matrix adaptation: a full-covariance Gaussian that learns the problem's scaling.

        θ_i = m + σ y_i,  y_i ~ N(0, C)
        m ← m + σ Σ_{w_i>0} w_i y_i
        C ← (1 - c_1 - c_μ Σ w_j) C + c_1 p_c p_cᵀ + c_μ Σ w°_i y_i y_iᵀ
        σ ← σ exp(c_σ/d_σ (‖p_σ‖/E‖N(0, I)‖ - 1))

    w are log-rank weights, negative for the worse half. Invariant under monotone transformations
    of fitness and rotations of the search space. Memory is D², and time D³ every few generations:
    for up to some thousands of parameters.

    Args:
      population_size: λ, at least 4; `4 + ⌊3 ln D⌋` is the tutorial's default, more on noisy or
        multimodal problems.
      sigma: the initial step size, > 0; about a third of the distance to the optimum.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.cma_es(population_size=32, sigma=0.3)

    Reference: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
    """
    check("sigma", sigma, sigma > 0, "positive")
    base.check_population_size(population_size, 4)
    return base.bind(init, ask, tell, HParams(sigma), population_size)
