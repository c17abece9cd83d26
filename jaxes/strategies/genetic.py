"""A genetic algorithm without crossover: mutated copies of the best, and the best stay."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check_count, check_fraction, check_positive
from jaxes.core import Strategy
from jaxes.gaussian import Sampler
from jaxes.specs import of_strategy, recorded
from jaxes.strategies import base
from jaxes.weights import is_informative


class HParams(NamedTuple):
    sigma: Array | float  # initial std of mutations, > 0
    sigma_decay: Array | float  # factor on σ a generation, in (0, 1]


class State(NamedTuple):
    mean: Array  # [D], the best vector so far
    parents: Array  # [P, D], best first
    parent_fitness: Array  # [P], as judged once; finite
    sigma: Array  # σ []
    hparams: HParams


def init(mean: Array, hparams: HParams, *, num_parents: int) -> State:
    return State(
        mean=mean,
        parents=jnp.tile(mean, (num_parents, 1)),
        parent_fitness=jnp.full((num_parents,), jnp.finfo(mean.dtype).min, mean.dtype),
        sigma=jnp.asarray(hparams.sigma),
        hparams=hparams,
    )


def _unjudged(state: State) -> Array:
    """Whether no fitness is known of the parents."""
    return state.parent_fitness[0] == jnp.finfo(state.mean.dtype).min


def ask(key: Array, state: State, members: Array, *, sampler: Sampler) -> Array:
    # The parent and its mutation are both functions of (key, member).
    parent_key, mutation_key = jax.random.split(key)
    num_parents = state.parents.shape[0]

    def choose(member: Array) -> Array:
        return jax.random.randint(jax.random.fold_in(parent_key, member), (), 0, num_parents)

    parents = state.parents[jax.vmap(choose)(members)]
    # At the start member 0 is the initial mean itself: an improvement has to improve on something.
    sigma = jnp.where((members == 0) & _unjudged(state), 0, state.sigma)
    return parents + sigma[:, None] * sampler(mutation_key, members, state.mean)


def tell(key: Array, state: State, fitness: Array, *, sampler: Sampler) -> State:
    num_parents = state.parents.shape[0]
    bounds = jnp.finfo(fitness.dtype)
    judged = jnp.clip(jnp.where(jnp.isnan(fitness), bounds.min, fitness), bounds.min, bounds.max)

    says_something = jnp.where(
        _unjudged(state) & (fitness.size > 1), is_informative(fitness), jnp.any(~jnp.isnan(fitness))
    )

    # Parents come first, so that a child has to be better than what it replaces.
    pool = jnp.concatenate([state.parent_fitness, judged])
    kept_fitness, kept = jax.lax.top_k(pool, num_parents)
    children = ask(key, state, jnp.maximum(kept - num_parents, 0), sampler=sampler)
    old = state.parents[jnp.minimum(kept, num_parents - 1)]
    parents = jnp.where((kept < num_parents)[:, None], old, children)
    moved = State(
        mean=parents[0],
        parents=parents,
        parent_fitness=kept_fitness,
        sigma=base.keep_in_range(state.sigma * state.hparams.sigma_decay),
        hparams=state.hparams,
    )
    return jax.tree.map(partial(jnp.where, says_something), moved, state)


@recorded(of_strategy)
@base.without_weights("it selects by rank alone, and averages nothing")
def genetic(
    population_size: int,
    *,
    num_parents: int | None = None,
    sigma: float = 0.1,
    sigma_decay: float = 1.0,
    sampling: base.Sampling = "independent",
) -> Strategy:
    """Truncation selection with elites: keep the perturbed vector if the result improves.

        child_i = parent_{p_i} + σ ε_i,    p_i uniform over the P parents
        parents ← the best P of parents and children
        σ ← σ · sigma_decay

    With one parent it is the lecture's general algorithm: perturb, and keep the perturbed vector
    if the result improves. Each vector is judged once, the initial mean too (as the first member);
    with a noisy fitness, a lucky parent stays until a luckier child comes. Memory is P · D.

    Args:
      population_size: N, the children of a generation.
      num_parents: P, at least 1; a tenth of the population by default.
      sigma: the standard deviation of mutations, > 0.
      sigma_decay: factor on σ a generation, in (0, 1]. A generation in which nothing improves
        counts too.
      sampling: how the mutations are drawn: a scheme of `jaxes.gaussian`, or its name.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.genetic(population_size=1000, num_parents=20, sigma=0.005)

    Reference: Such et al., Deep neuroevolution (2017), arXiv:1712.06567, Algorithm 1.
    """
    base.check_population_size(population_size, 1)
    if num_parents is None:
        num_parents = max(1, population_size // 10)
    check_count("num_parents", num_parents)
    check_positive("sigma", sigma)
    check_fraction("sigma_decay", sigma_decay)
    return base.bind(
        partial(init, num_parents=num_parents),
        ask,
        tell,
        HParams(sigma, sigma_decay),
        population_size,
        sampling=sampling,
        holds=False,
        frozen_by_ties=False,  # equal children may be better than their parents
    )
