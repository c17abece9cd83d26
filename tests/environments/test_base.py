"""What an environment must be, and what is said of one that is not."""

import jax
import jax.numpy as jnp
import pytest

from jaxes.environments import Environment, observation_size


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
        ({"reset": lambda key: (0.0, jnp.zeros((3, 1)))}, r"reset's observation must be \[O\]"),
        ({"reset": lambda key: (0.0, jnp.zeros(3, int))}, r"of floats, got 'int32\[3\]'"),
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
            {"step": lambda state, action: (state, jnp.ones(3), 0.0, 0.0)},
            r"step's done must be \[\], a bool, got 'float32\[\]'",
        ),
    ],
)
def test_another_kind_of_environment_is_refused(replaced, message):
    with pytest.raises(ValueError, match=message):
        observation_size(environment(**replaced))
