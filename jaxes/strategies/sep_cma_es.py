"""Separable CMA-ES: the covariance matrix is its diagonal; memory and time are linear in D.

Equation numbers and symbols: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_positive
from jaxes.core import Strategy
from jaxes.gaussian import CHUNK_SIZE, Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base, cma_es
from jaxes.strategies.cma_es import Constants, HParams
from jaxes.weights import by_rank


class State(NamedTuple):
    mean: Array  # m [D]
    sigma: Array  # σ []
    C: Array  # [D], the distribution is N(m, σ² diag(C))
    p_sigma: Array  # [D], conjugate evolution path
    p_c: Array  # [D], evolution path
    generation: Array  # g, int32 []
    hparams: HParams


def constants(population_size: int, dim: int) -> Constants:
    """CMA-ES's, but with D instead of D²/2 numbers to learn C adapts (n + 2)/3 times as fast."""
    return cma_es.constants(population_size, dim, speed=(dim + 2) / 3)


def init(mean: Array, hparams: HParams) -> State:
    return State(
        mean=mean,
        sigma=jnp.asarray(hparams.sigma),
        C=jnp.ones_like(mean),
        p_sigma=jnp.zeros_like(mean),
        p_c=jnp.zeros_like(mean),
        generation=jnp.zeros((), jnp.int32),
        hparams=hparams,
    )


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    z = sampler(key, members, state.mean)  # ~ N(0, I)   (38)
    return state.mean[None] + (state.sigma * jnp.sqrt(state.C))[None] * z  # ~ N(m, σ²C)   (40)


def tell(
    key: Array,
    state: State,
    fitness: Array,
    *,
    sampler: Sampler,
    constants: Callable[[int, int], Constants],
) -> State:
    c = constants(fitness.size, state.mean.size)

    def moments(z: Array, w: Array) -> tuple[Array, Array]:
        return jnp.maximum(w, 0) @ z, cma_es.scaled_weights(w, z) @ z**2

    w = by_rank(fitness, jnp.asarray(c.weights, state.mean.dtype))
    z_w, z_squared = sampler.sum(moments, key, state.mean, w)

    y_w = jnp.sqrt(state.C) * z_w  # (41); C^{-1/2} ⟨y⟩_w = ⟨z⟩_w
    sigma, p_sigma, p_c, kept = cma_es.follow_paths(c, state, y_w, whitened=z_w)
    C = kept * state.C + c.c_1 * p_c**2 + c.c_mu * state.C * z_squared  # (47)
    return State(
        mean=state.mean + state.sigma * y_w,  # (42)
        sigma=sigma,
        C=base.keep_in_range(jnp.sqrt(C)) ** 2,
        p_sigma=p_sigma,
        p_c=p_c,
        generation=state.generation + 1,
        hparams=state.hparams,
    )


@recorded(of_strategy)
@base.without_weights("its learning rates follow from its weights; `constants` changes both")
def sep_cma_es(
    population_size: int,
    *,
    sigma: float = 0.5,
    constants: Callable[[int, int], Constants] = constants,
    sampling: base.Sampling = "independent",
    chunk_size: int = CHUNK_SIZE,
) -> Strategy:
    """Separable CMA-ES: evolution paths and active weights of CMA-ES with a diagonal covariance.

        θ_i = m + σ √C z_i
        m ← m + σ √C Σ_{w_i>0} w_i z_i
        C ← (1 - c_1 - c_μ Σ w_j) C + c_1 p_c² + c_μ C Σ w°_i z_i²
        σ ← σ exp(c_σ/d_σ (‖p_σ‖/E‖N(0, I)‖ - 1))

    It learns the scale of each parameter, but no rotation. Time and memory are linear in D.

    Args:
      population_size: λ, at least 4; `4 + ⌊3 ln D⌋` is the default of the literature.
      sigma: the initial step size, > 0.
      constants: `(population_size, D) -> Constants`: weights by rank and learning rates.
      sampling: how the noise is drawn: a scheme of `jaxes.gaussian`, or its name.
      chunk_size: the members whose noise `tell` holds at once.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.sep_cma_es(population_size=64, sigma=0.3)

    Reference: Ros & Hansen, A simple modification in CMA-ES achieving linear time and space
    complexity (PPSN 2008).
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
