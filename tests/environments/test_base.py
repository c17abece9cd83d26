"""What an environment must be, and what is said of one that is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.environments import Environment, observation_size
from jaxes.environments.base import tidied


def environment(**replaced):
    def reset(key):
        return jax.random.uniform(key), jnp.zeros(3)

    def step(state, action):
        return state + action[0], jnp.ones(3), state, state > 1

    functions = {"reset": reset, "step": step} | replaced
    return Environment(**functions, action_size=2, name="'mine'")


def test_the_size_of_observations_is_found_without_computing():
    assert observation_size(environment()) == 3


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"reset": lambda: 0}, r"'mine': reset\(key\) fails: TypeError: .* 0 positional arguments"),
        ({"reset": lambda key: jnp.zeros(3)}, r"'mine': reset\(key\) must be a tuple \(env_state"),
        ({"reset": lambda key: (0.0, "left")}, r"reset\(key\) fails: TypeError"),
        ({"reset": lambda key: (0.0, {})}, r"reset's observation must be numbers, .* got '{}'"),
        ({"reset": lambda key: (0.0, key)}, r"reset's observation must be numbers, .*key<fry>"),
        ({"reset": lambda key: (0.0, jnp.zeros(3, complex))}, r"got 'complex64\[3\]'"),
        ({"step": lambda state, action: 1 / 0}, r"step\(env_state, action\) fails: ZeroDivision"),
        (
            {"step": lambda state, action: (state, jnp.ones(3), 0.0)},
            r"'mine': step must be a tuple \(env_state, observation, reward, done\)",
        ),
        (
            {"step": lambda state, action: ((state, state), jnp.ones(3), 0.0, False)},
            r"step's env_state must be like reset's, float32\[\]",
        ),
        (
            {"step": lambda state, action: (state, jnp.ones(4), 0.0, False)},
            r"step's observation must be like reset's, float32\[3\], got 'float32\[4\]'",
        ),
        (
            {"step": lambda state, action: (state, jnp.ones(3), jnp.ones(1), False)},
            r"step's reward must be \[\], a float, got 'float32\[1\]'",
        ),
        (
            {"step": lambda state, action: (state, jnp.ones(3), 0.0, None)},
            r"step's done must be \[\], a bool, got 'None'",
        ),
        (
            {"step": lambda state, action: (state, jnp.ones(3), 0.0, jnp.zeros(3, bool))},
            r"step's done must be \[\], a bool, got 'bool\[3\]'",
        ),
    ],
)
def test_another_kind_of_environment_is_refused(replaced, message):
    with pytest.raises(ValueError, match=message):
        observation_size(environment(**replaced))


def pixels(state):
    return jnp.full((2, 2, 3), state, jnp.uint8)


@pytest.mark.parametrize(
    ("observe", "size"),
    [
        (lambda t: {"a": jnp.full(2, t), "b": t > 1, "c": (pixels(t), t)}, 16),
        (pixels, 12),
        (lambda t: t, 1),
        (lambda t: jnp.full(3, t), 3),
        (lambda t: jnp.full(3, t, bool), 3),
        (lambda t: [float(1), t], 2),
    ],
)
@pytest.mark.parametrize(
    ("reward", "done"),
    [
        (lambda t: 1, lambda t: 0),
        (lambda t: True, lambda t: 1.0 - (t < 3)),
        (lambda t: t, lambda t: False),
        (lambda t: 1.0, lambda t: jnp.asarray(t >= 3, jnp.int32)),
    ],
)
def test_observations_rewards_and_ends_may_be_any_numbers(observe, size, reward, done):
    """Of a counter t: flattened, cast, and otherwise what they are."""
    mine = Environment(
        lambda key: (jnp.zeros((), jnp.int32), observe(jnp.zeros((), jnp.int32))),
        lambda t, action: (t + 1, observe(t + 1), reward(t + 1), done(t + 1)),
        action_size=1,
    )
    assert observation_size(mine) == size
    tidy = tidied(mine)
    state, observation = tidy.reset(jax.random.key(0))
    assert (observation.shape, observation.dtype) == ((size,), jnp.float32)
    for t in range(1, 4):
        state, observation, got, ended = tidy.step(state, jnp.zeros(1))
        leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(observe(state))]
        np.testing.assert_array_equal(observation, np.concatenate(leaves).astype(np.float32))
        assert (got.dtype, ended.dtype) == (jnp.float32, jnp.bool_)
        assert (float(got), bool(ended)) == (float(reward(t)), bool(done(t)))


def test_a_tidy_environment_is_left_alone():
    mine = environment()
    assert tidied(mine) is mine


def test_numbers_of_any_kind_train():
    mine = Environment(
        lambda key: (0, {"time": 0, "left": True}),
        lambda t, action: (t + 1, {"time": t + 1, "left": action[0] > 0}, 1, t > 2),
        action_size=1,
    )
    problem = jaxes.problems.policy_search(mine, jaxes.policies.linear(), num_test_episodes=2)
    result = jaxes.train(problem, jaxes.openai_es(4), num_generations=1)
    assert (result.return_mean, result.env_steps) == (4, 16)
