"""Programs lower for accelerators that are not here."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jaxes
from jaxes.trials import vmapped_one_by_one

ACCELERATORS = ("cuda", "tpu")


@pytest.fixture(scope="module")
def policy_search():
    """A policy that remembers, in an environment of a few lines."""

    def step(position, action):
        position = position + action
        return position, position, -jnp.sum(position**2), jnp.max(position) > 3

    environment = jaxes.Environment(
        lambda key: (jax.random.normal(key, (2,)),) * 2, step, action_size=2
    )
    policy = jaxes.policies.gru(3)
    return jaxes.problems.policy_search(environment, policy, episode_length=5, num_test_episodes=2)


def plain():
    return jaxes.problems.function(lambda x: -jnp.sum(x**2), lambda key: jnp.ones(5))


def lowered(function, *arguments):
    """What comes out, by the program that was lowered for both."""
    exported = export.export(jax.jit(function), platforms=ACCELERATORS)(*arguments)
    assert exported.platforms == ACCELERATORS
    return exported.out_tree.unflatten(exported.out_avals)


def assert_alike(before, after):
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.parametrize("name", ["cma_es", "openai_es"])
def test_an_update_step_lowers_for_cuda_and_tpu(name):
    strategy, problem, mesh = jaxes.STRATEGIES[name](16), plain(), jaxes.make_mesh(1)
    key = jax.random.key(0)
    state = jaxes.init(key, strategy, problem, mesh=mesh)
    told, _ = lowered(jaxes.make_update_step(strategy, problem, mesh), key, state)
    assert_alike(state, told)


def test_a_step_of_episodes_lowers_for_cuda_and_tpu_alone_and_in_a_sweep(policy_search):
    strategy, mesh = vmapped_one_by_one(jaxes.openai_es(8)), jaxes.make_mesh(1)
    keys = jax.random.split(jax.random.key(0), 3)
    state = jaxes.init(keys[0], strategy, policy_search, mesh=mesh)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), state)
    step = jaxes.make_update_step(strategy, policy_search, mesh)
    assert_alike(state, lowered(step, keys[0], state)[0])
    assert_alike(states, lowered(jax.vmap(step), keys, states)[0])


def test_a_policy_lowers_for_cuda_and_tpu(policy_search):
    strategy = jaxes.openai_es(8)
    state = jaxes.init(jax.random.key(0), strategy, policy_search)

    def act(mean, problem_state, memory, observation):
        policy = policy_search.policy(mean, problem_state)
        return policy.apply(policy.init(jax.random.key(0)), memory, observation)

    memory = jnp.zeros(3)
    inputs = state.strategy.mean, state.problem, memory, jnp.zeros(2)
    assert_alike((jnp.zeros(2), memory), lowered(act, *inputs))
