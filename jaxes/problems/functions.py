"""Test functions with known optima, as problems: fitness is minus the function's value.

Each is shifted by a fixed random vector, so that its optimum lies nowhere special; a search that
starts at the origin has to find it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes import parallel
from jaxes.checks import check_count
from jaxes.core import Evaluation, Population, Problem, Tests
from jaxes.search import check_scalar, evaluate_in_chunks
from jaxes.specs import of_function, recorded
from jaxes.trials import of_trial, vmapped_into_one_queue

Function = Callable[[Array], Array]  # z [D] -> value [], with its minimum 0 at z = 0


class HParams(NamedTuple):
    """No number of a plain function is traced."""


def function(fn: Callable[[Array], Array], initial_mean: Callable[[Array], Array]) -> Problem:
    """The problem of maximizing a plain function.

    Args:
      fn: `solution [D] -> fitness []`, jittable.
      initial_mean: `key -> mean [D]`.

    Raises:
      ValueError: at trace time, where `fn` returns anything else than one real number.

    Example:
      >>> problem = function(lambda x: -jnp.sum((x - 3) ** 2), lambda key: jnp.zeros(10))
    """

    def init(key: Array, hparams: HParams | None = None) -> tuple[()]:
        return ()

    @vmapped_into_one_queue
    def evaluate(
        keys: Array, populations: Population, problem_states: Any, phases: Array
    ) -> Evaluation:
        check_scalar("fn", fn, populations.mean[0])
        if phases.size == 1:  # devices divide a run's members, or else the trials
            fitness = evaluate_in_chunks(fn, of_trial(populations, 0))[None]
        else:
            fitness = parallel.map_divided(
                partial(evaluate_in_chunks, fn, divide=False),
                populations,
                batched=True,
                hosts=True,
            )
        returns = jax.vmap(fn)(populations.mean)[:, None]
        no = jnp.zeros(returns.shape, bool)
        tests = Tests(returns, length=no.astype(jnp.int32), diverged=no, truncated=no)
        return Evaluation(fitness, problem_states, {}, tests)

    return Problem(init, evaluate, initial_mean, HParams())


def _shifted(fn: Function, num_dims: int, rotated: bool) -> Problem:
    check_count("num_dims", num_dims)
    shift = optimum(num_dims)
    normal = np.random.default_rng(num_dims).normal(size=(num_dims, num_dims)) if rotated else None
    rotation = None if normal is None else np.linalg.qr(normal)[0]

    def fitness(x: Array) -> Array:
        z = x - jnp.asarray(shift, x.dtype)
        return -fn(z if rotation is None else jnp.asarray(rotation, x.dtype) @ z)

    return function(fitness, lambda key: jnp.zeros(num_dims))


def optimum(num_dims: int) -> np.ndarray:
    """The optimum `[D]` that all functions of this module share, uniform in [-3, 3]^D."""
    return np.random.default_rng(num_dims).uniform(-3, 3, num_dims)


def _scales(num_dims: int, dtype: Any, ratio: float) -> Array:
    return ratio ** (jnp.arange(num_dims, dtype=dtype) / max(num_dims - 1, 1))


@recorded(of_function)
def sphere(num_dims: int = 10) -> Problem:
    """Σ z_i²: the easiest function, equally scaled in all directions."""
    return _shifted(lambda z: jnp.sum(z**2), num_dims, rotated=False)


@recorded(of_function)
def ellipsoid(num_dims: int = 10) -> Problem:
    """Σ 10^{6(i-1)/(D-1)} z_i²: separable, condition number 10⁶."""
    return _shifted(_ellipsoid, num_dims, rotated=False)


@recorded(of_function)
def rotated_ellipsoid(num_dims: int = 10) -> Problem:
    """The ellipsoid in rotated coordinates: a diagonal covariance cannot fit it."""
    return _shifted(_ellipsoid, num_dims, rotated=True)


@recorded(of_function)
def rosenbrock(num_dims: int = 10) -> Problem:
    """Σ 100 (u_{i+1} - u_i²)² + (1 - u_i)² with u = z + 1: a curved valley; not separable."""

    def fn(z: Array) -> Array:
        u = z + 1
        return jnp.sum(100 * (u[1:] - u[:-1] ** 2) ** 2 + (1 - u[:-1]) ** 2)

    return _shifted(fn, num_dims, rotated=False)


@recorded(of_function)
def rastrigin(num_dims: int = 10) -> Problem:
    """Σ z_i² + 10 (1 - cos 2πz_i): about 10^D local optima in a grid."""
    return _shifted(
        lambda z: jnp.sum(z**2 + 10 * (1 - jnp.cos(2 * jnp.pi * z))), num_dims, rotated=False
    )


@recorded(of_function)
def ackley(num_dims: int = 10) -> Problem:
    """A nearly flat outer region with ripples and a narrow funnel at the optimum."""

    def fn(z: Array) -> Array:
        distance = jnp.sqrt(jnp.mean(z**2))
        ripples = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * z)))
        return 20 * (1 - jnp.exp(-0.2 * distance)) + jnp.e - ripples

    return _shifted(fn, num_dims, rotated=False)


def _ellipsoid(z: Array) -> Array:
    return jnp.sum(_scales(z.size, z.dtype, 1e6) * z**2)


FUNCTIONS: dict[str, Callable[..., Problem]] = {
    "ackley": ackley,
    "ellipsoid": ellipsoid,
    "rastrigin": rastrigin,
    "rosenbrock": rosenbrock,
    "rotated_ellipsoid": rotated_ellipsoid,
    "sphere": sphere,
}
