"""CMA-ES with a full covariance matrix and active (negative) recombination weights.

Equation numbers and symbols: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import by_rank


class HParams(NamedTuple):
    sigma: Array | float  # initial step size, > 0


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

    @property
    def total(self) -> Any:
        """Σ w_j: a plain number, unless the weights are traced."""
        total = self.weights.sum()
        return float(total) if isinstance(total, np.floating) else total


def constants(population_size: int, dim: int, speed: float = 1.0) -> Constants:
    """The default strategy parameters (Table 1), all from λ and n; c_1 and c_μ times `speed`."""
    lam, n = population_size, dim
    mu = lam // 2
    raw = np.log((lam + 1) / 2) - np.log(np.arange(1, lam + 1))  # (49)
    mu_eff = float(raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum())  # Table 1
    mu_eff_minus = float(raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum())

    c_1 = speed * 2 / ((n + 1.3) ** 2 + mu_eff)  # (57)
    # (58), α_cov = 2, as `cmaes` has it, without the 1/4 of later editions; 1e-8 keeps (52)
    # positive where λ is large.
    c_mu = speed * 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff)
    c_mu = min(1 - c_1 - 1e-8, c_mu)
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
        d_sigma=damping(c_sigma, mu_eff, n),
        c_c=(4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n),  # (56)
        c_1=c_1,
        c_mu=c_mu,
        chi_n=expected_norm(n),
        eigen_gap=math.ceil(1 / ((c_1 + c_mu) * n * 10)),  # B.2; pycma rounds up too
    )


def damping(c_sigma: float, mu_eff: float, dim: int) -> float:
    """d_σ (55), which slows the step size where many members are recombined."""
    return 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (dim + 1)) - 1) + c_sigma


def expected_norm(dim: int) -> float:
    """E‖N(0, I)‖."""
    return math.sqrt(dim) * (1 - 1 / (4 * dim) + 1 / (21 * dim**2))


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


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    z = sampler(key, members, state.mean)  # ~ N(0, I)   (38)
    y = sqrt_c_times(state, z)  # ~ N(0, C)   (39)
    return state.mean[None] + state.sigma * y  # ~ N(m, σ²C)   (40)


def tell(
    key: Array,
    state: State,
    fitness: Array,
    *,
    sampler: Sampler,
    constants: Callable[[int, int], Constants],
) -> State:
    n, dtype = state.mean.size, state.mean.dtype
    c = constants(fitness.size, n)

    def moments(z: Array, w: Array) -> tuple[Array, Array]:
        y = sqrt_c_times(state, z)
        scaled = scaled_weights(w, z)[:, None]
        root = jnp.sqrt(jnp.abs(scaled)) * y  # so that their product is symmetric to the bit
        return jnp.maximum(w, 0) @ z, (jnp.sign(scaled) * root).T @ root

    w = by_rank(fitness, jnp.asarray(c.weights, dtype))
    z_w, rank_mu = sampler.sum(moments, key, state.mean, w)

    # Selection and recombination (41), (42), with c_m = 1
    y_w = sqrt_c_times(state, z_w[None])[0]
    mean = state.mean + state.sigma * y_w

    whitened = z_w  # C^{-1/2} ⟨y⟩_w
    sigma, p_sigma, p_c, kept = follow_paths(c, state, y_w, whitened)
    variances = kept * jnp.diagonal(state.C) + c.c_1 * p_c**2 + c.c_mu * jnp.diagonal(rank_mu)
    shrink = jnp.minimum(1, base.largest(dtype) ** 2 / jnp.max(variances))  # 1, but at infinity
    C = shrink * (kept * state.C + c.c_1 * jnp.outer(p_c, p_c) + c.c_mu * rank_mu)  # (47)

    generation = state.generation + 1
    shift, B, D = _decompose_where(generation % c.eigen_gap == 0, C, state.B, state.D)
    C = C.at[jnp.diag_indices(n)].add(shift)
    return State(
        mean=mean,
        sigma=sigma,
        C=C,
        p_sigma=p_sigma,
        p_c=p_c,
        B=B,
        D=D,
        generation=generation,
        hparams=state.hparams,
    )


def sqrt_c_times(state: State, z: Array) -> Array:
    """`C^{1/2} z` for each row of `z [M, D]`.

    With the symmetric root B D Bᵀ rather than B D: eigenvectors have no sign, and those of equal
    eigenvalues no direction, so that B D depends on rounding, and a vmapped run would not be the
    single one.
    """
    return ((z @ state.B) * state.D[None]) @ state.B.T


def scaled_weights(w: Array, z: Array) -> Array:
    """(46): w°_i = w_i, or w_i n/‖C^{-1/2} y_i‖² where negative; and ‖C^{-1/2} y_i‖ = ‖z_i‖."""
    return w * jnp.where(w >= 0, 1, z.shape[1] / (jnp.sum(z**2, axis=1) + 1e-8))


def follow_paths(
    c: Constants, state: Any, y_w: Array, whitened: Array
) -> tuple[Array, Array, Array, Array]:
    """Moves both evolution paths by the step ⟨y⟩_w, and the step size.

    Args:
      c: the constants.
      state: has sigma [], p_sigma [D], p_c [D] and generation [].
      y_w: ⟨y⟩_w [D].
      whitened: C^{-1/2} ⟨y⟩_w [D].

    Returns:
      σ [], p_σ [D], p_c [D], and the share [] of C that (47) keeps.
    """
    n, dtype = y_w.size, y_w.dtype
    sigma, p_sigma, norm_p_sigma = control_step_size(c, state, whitened)

    # (45). Here g counts this generation too.
    g = (state.generation + 1).astype(dtype)
    correction = jnp.sqrt(1 - (1 - c.c_sigma) ** (2 * (g + 1)))
    h_sigma = (norm_p_sigma / correction < (1.4 + 2 / (n + 1)) * c.chi_n).astype(dtype)
    p_c = (1 - c.c_c) * state.p_c + h_sigma * (c.c_c * (2 - c.c_c) * c.mu_eff) ** 0.5 * y_w

    delta_h = (1 - h_sigma) * c.c_c * (2 - c.c_c)
    kept = 1 + c.c_1 * delta_h - c.c_1 - c.c_mu * c.total
    return sigma, p_sigma, p_c, kept


def control_step_size(c: Any, state: Any, whitened: Array) -> tuple[Array, Array, Array]:
    """Cumulative step-size adaptation (43), (44): σ [], p_σ [D] and ‖p_σ‖ [].

    Args:
      c: has mu_eff, c_sigma, d_sigma and chi_n.
      state: has sigma [] and p_sigma [D].
      whitened: C^{-1/2} ⟨y⟩_w [D].
    """
    unit = (c.c_sigma * (2 - c.c_sigma) * c.mu_eff) ** 0.5  # keeps p_σ ~ N(0, I)
    p_sigma = (1 - c.c_sigma) * state.p_sigma + unit * whitened
    norm_p_sigma = jnp.linalg.norm(p_sigma)
    sigma = state.sigma * jnp.exp(c.c_sigma / c.d_sigma * (norm_p_sigma / c.chi_n - 1))
    return base.keep_in_range(sigma), p_sigma, norm_p_sigma


@jax.custom_batching.custom_vmap
def _decompose_where(due: Array, C: Array, B: Array, D: Array) -> tuple[Array, Array, Array]:
    """Brings `C + sI = B diag(D²) Bᵀ` up to date in the runs that are `due [...]`; s, B and D.

    Nothing is decomposed where none is due. Under vmap `lax.cond` alone would become a select, and
    decompose in every generation: the rule below asks instead whether any run of the batch is due.
    """

    def decompose(*old: Array) -> tuple[Array, ...]:
        new = base.eigendecompose(C)
        if due.ndim == 0:
            return new
        return tuple(
            jnp.where(jnp.expand_dims(due, range(due.ndim, before.ndim)), now, before)
            for now, before in zip(new, old, strict=True)
        )

    return jax.lax.cond(jnp.any(due), decompose, lambda *old: old, jnp.zeros_like(D[..., 0]), B, D)


@_decompose_where.def_vmap
def _decompose_where_batched(
    axis_size: int, in_batched: Any, *arguments: Array
) -> tuple[tuple[Array, Array, Array], tuple[bool, bool, bool]]:
    batch = (
        argument if batched else jnp.broadcast_to(argument, (axis_size, *argument.shape))
        for argument, batched in zip(arguments, in_batched, strict=True)
    )
    return _decompose_where(*batch), (True, True, True)


@recorded(of_strategy)
@base.without_weights("its learning rates follow from its weights; `constants` changes both")
def cma_es(
    population_size: int,
    *,
    sigma: float = 0.5,
    constants: Callable[[int, int], Constants] = constants,
    sampling: base.Sampling = "independent",
    chunk_size: int = 4 * CHUNK_SIZE,  # matrix products with B are faster by the many
) -> Strategy:
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
      constants: `(population_size, D) -> Constants`: the recombination weights by rank and the
        learning rates, which depend on each other; the tutorial's by default.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.cma_es(population_size=32, sigma=0.3)

    Reference: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
    """
    check_positive("sigma", sigma)
    base.check_population_size(population_size, 4)
    return base.bind(
        init,
        ask,
        partial(tell, constants=constants),
        HParams(sigma),
        population_size,
        sampling=sampling,
        chunk_size=chunk_size,
    )
