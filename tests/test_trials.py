"""Trials side by side are the runs that they would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapters import make_update_step
from apart import ran, said_by

import jaxes
from jaxes.core import IDLE, TEST, TRAIN
from jaxes.environments import Environment
from jaxes.problems.policy_search import policy_search
from jaxes.trials import vmapped_one_by_one

# In a process of its own, because the flags of `use_cpu_devices` are part of the promise.
SCRIPT = """
import json, sys
import jaxes
jaxes.use_cpu_devices(int(sys.argv[1]))
import jax, jax.numpy as jnp, numpy as np
from jaxes import parallel
from jaxes.environments import Environment
from jaxes.problems.policy_search import policy_search
from jaxes.trials import vmapped_one_by_one

def walk():
    def reset(key):
        state = jax.random.normal(key, (3,)), jax.random.randint(key, (), 1, 31)
        return state, jnp.append(state[0], 1.0)
    def step(state, action):
        position, left = state
        position = jnp.tanh(position * 1.1 + action)
        observation = jnp.append(position, left.astype(jnp.float32))
        return (position, left - 1), observation, position.sum(), left == 1
    return Environment(reset, step, 3)

problem = policy_search(
    walk(), jaxes.policies.mlp((8,)), episode_length=20, num_episodes=2, num_test_episodes=3,
    normalize_observations=True, observation_clip=10.0, alive_penalty=0.1, num_lanes=None)
SIGMA = [0.1, 0.5, 1.0]

def start(row, strategy):
    key, sigma = row
    hparams = jaxes.TrainHParams(strategy.hparams._replace(sigma=sigma), problem.hparams)
    return jaxes.init(key, strategy, problem, hparams)

strategy = jaxes.STRATEGIES[sys.argv[2]](12)
rows = jax.vmap(jax.random.key)(jnp.arange(3)), jnp.asarray(SIGMA)
alone = jax.jit(jaxes.make_update_step(strategy, problem))
together = jax.jit(jax.vmap(jaxes.make_update_step(vmapped_one_by_one(strategy), problem)))
one = jax.jit(lambda row: start(row, strategy))
states = [one((key, sigma)) for key, sigma in zip(*rows)]
each = lambda row: start(row, vmapped_one_by_one(strategy))
stack = jax.jit(lambda rows: jax.lax.map(each, rows))(rows)
stack = parallel.place(stack)
for generation in range(3):
    keys = parallel.place(jax.vmap(lambda key: jax.random.fold_in(key, generation))(rows[0]))
    found = [alone(key, state) for key, state in zip(keys, states)]
    states, metrics = [state for state, _ in found], [row for _, row in found]
    stack, rows_of_all = together(keys, stack)
one_by_one = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
pairs = zip(jax.tree.leaves_with_path(one_by_one), jax.tree.leaves(stack))
differ = [jax.tree_util.keystr(path) for (path, a), b in pairs
          if not np.array_equal(a, b, equal_nan=True)]
steps = [int(row["rollout/env_steps"]) for row in metrics]
assert rows_of_all["rollout/env_steps"].tolist() == steps
print(json.dumps(differ))
"""


@pytest.mark.parametrize(
    ("count", "strategy"),
    [pytest.param(1, "openai_es", marks=pytest.mark.slow), (2, "cma_es")],
)
def test_a_trial_has_the_bits_of_its_run_alone(count, strategy):
    assert said_by(SCRIPT, count, strategy) == []


MANY = """
import jaxes
jaxes.use_cpu_devices(2)
import jax, numpy as np
problem = jaxes.problems.functions.rosenbrock(10)
sigmas, options = {"sigma": [0.1, 1.0]}, dict(num_generations=5, test_every=5)
for name, sampling in [("cma_es", "independent"), ("xnes", "independent"), ("cem", "orthogonal")]:
    strategy = jaxes.STRATEGIES[name](20, sampling=sampling)
    result = jaxes.sweep(problem, strategy, sigmas, num_seeds=75, exact=False, **options)
    hparams = strategy.hparams._replace(sigma=1.0)
    alone = jaxes.train(problem, strategy._replace(hparams=hparams), seed=74, **options)
    mean = result.states[0].strategy.mean[149]
    np.testing.assert_allclose(mean, alone.state.strategy.mean, rtol=1e-4, atol=1e-4)
"""


def test_many_batched_searches_end_on_two_devices():
    """Batched LAPACK waits for ever where XLA has but one thread a device."""
    ran(MANY)


@pytest.fixture(scope="module")
def problem():
    """A point that moves by the action and earns its position, for seven steps."""

    def reset(key):
        position = jax.random.normal(key, (1,))
        return position, position

    def step(position, action):
        return position + action, position + action, position[0], jnp.bool_(False)

    return policy_search(
        Environment(reset, step, 1),
        jaxes.policies.linear(),
        episode_length=7,
        num_episodes=1,
        num_test_episodes=2,
        normalize_observations=True,
        observation_clip=10.0,
        alive_penalty=0.0,
        num_lanes=None,
    )


PHASES = jnp.array([TRAIN, IDLE, TEST, TRAIN, TRAIN, TRAIN])


@pytest.fixture(scope="module")
def six(problem):
    """An update step, and the keys and states of six trials before and after it."""
    strategy = vmapped_one_by_one(jaxes.openai_es(4, sigma=0.3))
    step = jax.vmap(make_update_step(strategy, problem))
    keys = jax.random.split(jax.random.key(0), 6)
    states = jax.jit(jax.vmap(lambda key: jaxes.init(key, strategy, problem)))(keys)
    return step, keys, states, jax.jit(step)(keys, states, PHASES)


def test_nested_trials_are_one_stack(six):
    step, *trials, flat = six
    grid = jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), (*trials, PHASES))
    nested = jax.jit(jax.vmap(step))(*grid)
    for ours, theirs in zip(jax.tree.leaves(nested), jax.tree.leaves(flat), strict=True):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-6)


def test_an_idle_trial_takes_no_steps_and_keeps_its_state(six):
    _, _, states, (after, metrics) = six
    assert metrics["rollout/env_steps"].tolist() == [28, 0, 0, 28, 28, 28]
    assert (metrics["test/returns"] != 0).any(axis=1).tolist() == [i == 2 for i in range(6)]
    assert after.generation.tolist() == [1, 0, 0, 1, 1, 1]
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(states), strict=True):
        np.testing.assert_array_equal(new[1:3], old[1:3])
    assert not np.array_equal(after.strategy.mean[0], states.strategy.mean[0])
