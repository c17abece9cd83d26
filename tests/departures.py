"""Policies of many kinds as runs would end with them, without a run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import jaxes
from jaxes.policies import Policy
from jaxes.problems.observations import ObservationStatistics
from jaxes.training.run import Run, Trial

O, A = 3, 2  # noqa: E741
KEY = jax.random.key(0)


def world(num_actions=None, observe=lambda x: x):
    """A point that is pushed; of discrete actions by the action's number."""

    def reset(key):
        x = jax.random.normal(key, (O,))
        return x, observe(x)

    def step(x, action):
        push = jnp.sum(action) if num_actions is None else action.astype(jnp.float32)
        x = 0.9 * x + 0.1 * push
        return x, observe(x), -jnp.sum(x**2), jnp.bool_(False)

    sizes = {"action_size": A} if num_actions is None else {"num_actions": num_actions}
    return jaxes.Environment(reset, step, name="world", **sizes)


class Cell(nn.Module):
    size: int

    @nn.compact
    def __call__(self, memory, x):
        key, hidden = memory
        hidden, x = nn.GRUCell(4)(hidden, x)
        key, noise_key = jax.random.split(key)
        x = nn.Dense(self.size)(x) + 0.1 * jax.random.normal(noise_key, (self.size,))
        return (key, hidden), x


class Network(nnx.Module):
    def __init__(self, size, rngs):
        self.layer = nnx.Linear(O, size, rngs=rngs)

    def __call__(self, memory, x):
        return {"steps": memory["steps"] + 1}, self.layer(x) / memory["steps"]


def matrix(observation_size, num_outputs):
    """A policy of two functions, whose parameters are one array."""
    return Policy(
        lambda key: jax.random.normal(key, (observation_size, num_outputs)),
        (),
        lambda params, memory, x: (jnp.tanh(x @ params), memory),
    )


def start(key):
    return key, jax.random.normal(key, (4,))


BUILT_IN = {
    "mlp": jaxes.policies.mlp(),
    "relu": jaxes.policies.mlp((5,), activation="relu", output="clip"),
    "linear": jaxes.policies.linear(),
    "gru": jaxes.policies.gru(4),
}
OWN = {
    "linen": jaxes.policies.flax(Cell, initial_state=start),
    "nnx": jaxes.policies.flax(Network, initial_state={"steps": np.float32(1)}),
    "matrix": matrix,
}


class Strategy(NamedTuple):
    mean: np.ndarray


def search(factory, environment=None, **settings):
    settings = {"episode_length": 6, "num_test_episodes": 5} | settings
    return jaxes.problems.policy_search(environment or world(), factory, **settings)


def ended(problem):
    """The result of a run that was never made: parameters and statistics are drawn."""
    size = jax.eval_shape(problem.initial_mean, KEY).size
    mean = np.random.default_rng(0).normal(size=size).astype(np.float32)
    problem_state = problem.init(KEY)
    if problem_state.observations is not None:
        statistics = ObservationStatistics(
            jnp.float32(50), jnp.arange(O, dtype=jnp.float32), 50 * jnp.array([0.25, 1.0, 4.0])
        )
        problem_state = problem_state._replace(observations=statistics)
    state = jaxes.TrainState(jnp.int32(7), Strategy(mean), problem_state)
    zeros = np.zeros(3, bool)
    tests = jaxes.Tests(np.float32([1, 2, 3]), np.int32([6, 6, 6]), zeros, zeros)
    hparams = jaxes.TrainHParams(jaxes.snes(4).hparams, problem.hparams)
    return Run(Trial(0, 11, {}, hparams), None).result(state, tests, tests)


def acts(problem, result):
    """The problem's own policy: `(memory, observation) -> (action, memory)`, and its memory."""
    policy = problem.policy(result.state.strategy.mean, result.state.problem)
    params = policy.init(KEY)
    return (lambda *inputs: policy.apply(params, *inputs)), policy.initial_state


def observations(count=64):
    """Many of them far from what the statistics know."""
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, O)) * 10.0 ** rng.uniform(-2, 4, (count, 1))).astype(np.float32)
