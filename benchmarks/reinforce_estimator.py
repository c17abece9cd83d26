"""REINFORCE in a page: episodes are played with random actions, and gradients come from their
log-probabilities alone.

    ∇ E[R] = E[ Σ_t A_t ∇ log π(a_t | o_t) ],    R = Σ_t r_t

where A_t is at its plainest the return R itself. Two ways of variance reduction leave the
expectation as it is: reward-to-go, Σ_{t' ≥ t} r_t', since an action changes no reward before it;
and a baseline, subtracted, which may be anything that does not depend on the action.

References: Williams, Simple statistical gradient-following algorithms for connectionist
reinforcement learning, Machine Learning 8 (1992); Sutton & Barto, Reinforcement Learning (2018),
sections 13.3 and 13.4.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.environments import Environment


class Episodes(NamedTuple):
    """What was seen and done; `rollout` makes one, `[T, ...]`, and a vmap of it N of them."""

    observations: Array  # [N, T, O], those that were acted on
    actions: Array  # [N, T, A]
    rewards: Array  # [N, T], 0 after the end
    alive: Array  # bool [N, T], whether the episode had not ended before this step


def rollout(
    environment: Environment, act: Callable[[Array, Array], Array], horizon: int, key: Array
) -> Episodes:
    """One episode of at most `horizon` steps in which `act: (key, observation [O]) -> action [A]`
    acts."""
    reset_key, act_key = jax.random.split(key)
    env_state, observation = environment.reset(reset_key)

    def step(carry: tuple, key: Array) -> tuple[tuple, Episodes]:
        env_state, observation, alive = carry
        action = act(key, observation)
        env_state, after, reward, done = environment.step(env_state, action)
        seen = Episodes(observation, action, jnp.where(alive, reward, 0), alive)
        return (env_state, after, alive & ~done), seen

    start = env_state, observation, jnp.bool_(True)
    return jax.lax.scan(step, start, jax.random.split(act_key, horizon))[1]


def leave_one_out(values: Array) -> Array:
    """Of values `[N, ...]` each less the mean of the N - 1 others, which do not depend on it."""
    others = (jnp.sum(values, axis=0) - values) / (values.shape[0] - 1)
    return values - others


def advantages(rewards: Array, *, baseline: bool, reward_to_go: bool) -> Array:
    """A_t of rewards `[N, T]`; a baseline needs N ≥ 2."""
    if reward_to_go:
        values = jnp.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]  # Σ_{t' ≥ t} r_t'
    else:
        values = jnp.broadcast_to(jnp.sum(rewards, axis=1, keepdims=True), rewards.shape)
    return leave_one_out(values) if baseline else values


def gradient(
    log_prob: Callable[[Any, Array, Array], Array],
    params: Any,
    episodes: Episodes,
    *,
    baseline: bool,
    reward_to_go: bool,
) -> Any:
    """The estimate 1/N Σ_i Σ_t A_it ∇ log π(a_it | o_it), a pytree like `params`.

    Args:
      log_prob: `(params, observation [O], action [A]) -> log π(action | observation)`.
      episodes: N of them, played with these parameters.
      baseline: whether the mean of the other episodes is subtracted.
      reward_to_go: whether rewards before an action are left out.
    """
    A = advantages(episodes.rewards, baseline=baseline, reward_to_go=reward_to_go)
    A = jnp.where(episodes.alive, A, 0)

    def surrogate(params: Any) -> Array:  # only its gradient means something
        log_probs = jax.vmap(jax.vmap(partial(log_prob, params)))
        return jnp.sum(A * log_probs(episodes.observations, episodes.actions)) / A.shape[0]

    return jax.grad(surrogate)(params)


def gaussian_log_prob(action: Array, mean: Array, std: float) -> Array:
    """log N(action [A]; mean [A], std² I), without the constant, which has no gradient."""
    return -0.5 * jnp.sum(((action - mean) / std) ** 2)
