"""What `reinforce.py` compares: the problem, the estimators of its gradient, the two policies at
which they are compared, and what its parts share."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import reinforce_estimator
from jax import Array
from jax.flatten_util import ravel_pytree
from reinforce_estimator import gaussian_log_prob, leave_one_out, rollout

import jaxes
from jaxes import parallel
from jaxes.environments import Environment, pendulum
from jaxes.policies import Policy, mlp

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]
Gradient = Callable[[Array, Array], Array]  # (params [D], key) -> an estimate [D]

EPISODES = 64  # an estimate
HORIZONS = (50, 200, 1000)
ACTION_STD, SIGMA = 0.3, 0.1  # of the noise of actions, of parameters
ACTIONS, PARAMETERS = "noise of actions", "noise of parameters"  # the objectives
POINTS = ("initial", "trained")  # the policies


def over_devices(fn: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`fn` of each row, one after another, divided among the devices."""
    return jax.jit(parallel.replicated(partial(parallel.map_divided, fn)))


# The problem.


def endless(environment: Environment) -> Environment:
    """The same without its time limit: it ends where `done_fn` says so."""

    def step(env_state: Any, action: Array) -> tuple:
        env_state, observation, reward, _ = environment.step(env_state, action)
        return env_state, observation, reward, environment.done_fn(observation)

    return environment._replace(step=step)


ENVIRONMENT = endless(pendulum())
NETWORK = mlp((32,))


@functools.cache
def network() -> tuple[Policy, Callable[[Array], Any]]:
    """The policy, and its parameters from a vector [D]."""
    with jax.ensure_compile_time_eval():  # wherever it is called first
        policy = NETWORK(observation_size=3, action_size=1)
        return policy, ravel_pytree(policy.init(jax.random.key(0)))[1]


def initial_params(seed: int) -> Array:
    return ravel_pytree(network()[0].init(jax.random.key(seed)))[0]


def action_of(params: Array, observation: Array) -> Array:
    """The policy without noise."""
    policy, unravel = network()
    return policy.apply(unravel(params), (), observation)[0]


def plain_action(params: Array, key: Array, observation: Array) -> Array:
    del key
    return action_of(params, observation)


def noisy_action(params: Array, key: Array, observation: Array) -> Array:
    mean = action_of(params, observation)
    return mean + ACTION_STD * jax.random.normal(key, mean.shape)


def return_of(params: Array, key: Array, *, horizon: int, noisy: bool = False) -> Array:
    """Of one episode."""
    act = noisy_action if noisy else plain_action
    return jnp.sum(rollout(ENVIRONMENT, partial(act, params), horizon, key).rewards)


@functools.cache
def point(name: str) -> Array:
    """The parameters at which gradients are taken."""
    if name == "initial":
        return initial_params(0)
    problem = jaxes.problems.policy_search(
        pendulum(), NETWORK, num_episodes=4, episode_length=200, normalize_observations=False
    )
    strategy = jaxes.cem(64, sigma=0.5)
    mean = jaxes.train(problem, strategy, num_generations=20).state.strategy.mean
    return jnp.asarray(np.asarray(mean))  # on no mesh


# Estimates of a gradient, each of 64 episodes.


def policy_gradient(horizon: int, baseline: bool, reward_to_go: bool) -> Gradient:
    """REINFORCE."""

    def log_prob(params: Array, observation: Array, action: Array) -> Array:
        return gaussian_log_prob(action, action_of(params, observation), ACTION_STD)

    def estimate(params: Array, key: Array) -> Array:
        one = partial(rollout, ENVIRONMENT, partial(noisy_action, params), horizon)
        episodes = jax.vmap(one)(jax.random.split(key, EPISODES))
        kind = {"baseline": baseline, "reward_to_go": reward_to_go}
        return reinforce_estimator.gradient(log_prob, params, episodes, **kind)

    return estimate


def evolution_gradient(
    strategy: jaxes.Strategy, return_fn: Callable[[Array, Array], Array], pairs: bool
) -> Gradient:
    """By `ask` and `tell`: with a learning rate of 1, the mean moves by the estimate. The members
    of a pair meet the same start, all others one of their own.

    Args:
      return_fn: `(params [D], key) -> return` of one episode.
    """

    def estimate(params: Array, key: Array) -> Array:
        ask_key, rollout_key = jax.random.split(key)
        state = strategy.init(params)
        members = strategy.ask(ask_key, state)
        keys = jax.random.split(rollout_key, EPISODES // 2 if pairs else EPISODES)
        keys = jnp.repeat(keys, 2) if pairs else keys
        returns = jax.vmap(return_fn)(members, keys)
        return strategy.tell(ask_key, state, returns).mean - params

    return estimate


def derivative(horizon: int) -> Gradient:
    """Of returns themselves, through actions and physics; the noise of actions stays as drawn."""

    def estimate(params: Array, key: Array) -> Array:
        keys = jax.random.split(key, EPISODES)
        returns = jax.vmap(partial(return_of, horizon=horizon, noisy=True), (None, 0))
        return jax.grad(lambda params: jnp.mean(returns(params, keys)))(params)

    return estimate


class Estimator(NamedTuple):
    objective: str
    at: Callable[[int], Gradient]  # at a horizon


def evolution(make: Callable[..., jaxes.Strategy], pairs: bool = False, **options) -> Estimator:
    strategy = make(EPISODES, sigma=SIGMA, learning_rate=1.0, **options)

    def at(horizon: int) -> Gradient:
        return evolution_gradient(strategy, partial(return_of, horizon=horizon), pairs)

    return Estimator(PARAMETERS, at)


def reinforce(baseline: bool, reward_to_go: bool) -> Estimator:
    return Estimator(ACTIONS, lambda horizon: policy_gradient(horizon, baseline, reward_to_go))


RAW = {"weights": "raw", "optimizer": "sgd", "weight_decay": 0.0}
BOTH, PAIRS = "REINFORCE, baseline and reward-to-go", "openai_es, pairs"
ESTIMATORS = {
    "REINFORCE": reinforce(False, False),
    "REINFORCE, reward-to-go": reinforce(False, True),
    "REINFORCE, baseline": reinforce(True, False),
    BOTH: reinforce(True, True),
    "nes": evolution(jaxes.nes),
    "nes, baseline": evolution(jaxes.nes, weights=leave_one_out),
    PAIRS: evolution(jaxes.openai_es, pairs=True, sampling="antithetic", **RAW),
    "derivative through the physics": Estimator(ACTIONS, derivative),
}
# Unbiased, and of little noise at every horizon, as the derivative is not from 200 steps on.
OF_REFERENCE = {ACTIONS: BOTH, PARAMETERS: PAIRS}
