"""Natural evolution strategies with a fixed step size: OpenAI-ES and the plain NES within it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import optax
from jax import Array
from jax.typing import ArrayLike

from jaxes import weights as weights_module
from jaxes.checks import check
from jaxes.core import Strategy
from jaxes.gaussian import noise, sum_over_members
from jaxes.strategies import base

Optimizer = Callable[[ArrayLike], optax.GradientTransformation]  # from its learning rate
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "lion"]
Weights = Callable[[Array], Array]  # fitness [N] -> weights [N]
WeightsName = Literal["centered_rank", "raw"]


class HParams(NamedTuple):
    sigma: Array | float
    learning_rate: Array | float
    weight_decay: Array | float


class State(NamedTuple):
    mean: Array  # μ [D]
    optimizer: optax.OptState
    hparams: HParams


def init(mean: Array, hparams: HParams, *, optimizer: Optimizer, **_: Any) -> State:
    return State(mean, optimizer(hparams.learning_rate).init(mean), hparams)


def ask(key: Array, state: State, members: Array, *, antithetic: bool, **_: Any) -> Array:
    # θ_i = μ + σ ε_i
    epsilon = noise(key, members, state.mean.size, state.mean.dtype, antithetic=antithetic)
    return state.mean[None] + state.hparams.sigma * epsilon


def tell(
    key: Array,
    state: State,
    fitness: Array,
    *,
    optimizer: Optimizer,
    weights: Weights,
    antithetic: bool,
) -> State:
    mean, hparams = state.mean, state.hparams
    shaped = weights(fitness)

    def weighted_noise(members: Array) -> Array:
        epsilon = noise(key, members, mean.size, mean.dtype, antithetic=antithetic)
        return shaped[members] @ epsilon

    # ∇_μ E[F] ≈ 1/(nσ) Σ F_i ε_i                          (Salimans et al. 2017, Algorithm 1)
    gradient = sum_over_members(weighted_noise, fitness.size) / (fitness.size * hparams.sigma)
    gradient = gradient - hparams.weight_decay * mean

    # optax descends, so it is given the gradient of -F.
    transform = optimizer(hparams.learning_rate)
    updates, optimizer_state = transform.update(-gradient, state.optimizer, mean)
    return State(optax.apply_updates(mean, updates), optimizer_state, hparams)


def openai_es(
    population_size: int,
    *,
    sigma: float = 0.02,
    learning_rate: float = 0.01,
    weight_decay: float = 0.005,
    optimizer: Optimizer | OptimizerName = "adam",
    weights: Weights | WeightsName = "centered_rank",
    antithetic: bool = True,
) -> Strategy:
    """OpenAI-ES: stochastic gradient ascent on the fitness of a Gaussian of fixed width.

        θ_i = μ + σ ε_i
        g   = 1/(nσ) Σ_i w_i ε_i - weight_decay · μ,    w = weights(F(θ_1..n))
        μ   ← optimizer(μ, g)

    The defaults are those released for humanoid; there g is not divided by σ, which Adam does not
    notice, but the weight decay does.

    Args:
      population_size: N, even with antithetic pairs.
      sigma: standard deviation of the perturbations, > 0; it stays as it is.
      learning_rate: step size of the optimizer, > 0.
      weight_decay: coefficient of the L2 penalty, ≥ 0.
      optimizer: a function from the learning rate to an optax optimizer, such as `optax.adam` or
        `lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))`, or a name.
      weights: `(fitness [N]) -> weights [N]`, or a name; `centered_rank` is invariant under
        monotone transformations of fitness, `raw` is the fitness itself.
      antithetic: members 2j and 2j + 1 are μ + σε and μ - σε.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.openai_es(population_size=256, sigma=0.05, optimizer=optax.adam)

    Reference: Salimans et al., Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning (2017), arXiv:1703.03864.
    """
    check("sigma", sigma, sigma > 0, "positive")
    check("learning_rate", learning_rate, learning_rate > 0, "positive")
    check("weight_decay", weight_decay, weight_decay >= 0, "at least 0")
    base.check_population_size(population_size, 2, even=antithetic)
    if isinstance(optimizer, str):
        optimizer = base.named(optimizer, OptimizerName, optax, "optimizer")
    if isinstance(weights, str):
        weights = base.named(weights, WeightsName, weights_module, "weights")
    check("optimizer", optimizer, callable(optimizer), "a function of the learning rate")
    check("weights", weights, callable(weights), "a function of fitness")
    return base.bind(
        init,
        ask,
        tell,
        HParams(sigma, learning_rate, weight_decay),
        population_size,
        optimizer=optimizer,
        weights=weights,
        antithetic=antithetic,
    )


def nes(population_size: int, *, sigma: float = 0.1, learning_rate: float = 0.01) -> Strategy:
    """Natural evolution strategy with a fixed σ: raw fitness, plain gradient ascent, no pairs.

        μ ← μ + α/(nσ) Σ_i F_i ε_i

    Args:
      population_size: N, at least 2.
      sigma: standard deviation σ of the perturbations, > 0.
      learning_rate: α > 0. It has the units of fitness: scale it with the problem.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> strategy = jaxes.nes(population_size=100, sigma=0.1, learning_rate=0.001)

    Reference: Salimans et al. (2017), Algorithm 1, arXiv:1703.03864.
    """
    return openai_es(
        population_size,
        sigma=sigma,
        learning_rate=learning_rate,
        weight_decay=0.0,
        optimizer="sgd",
        weights="raw",
        antithetic=False,
    )
