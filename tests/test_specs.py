"""What was made says with what arguments, as a config would."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.specs import of_strategy, plain, recorded


def test_a_policy_search_is_three_sections():
    problem = jaxes.problems.brax("fast", num_episodes=2, policy=jaxes.policies.mlp((4,)))
    environment = {"name": "brax", "env_name": "fast", "backend": "spring", "options": None}
    policy = {"name": "mlp", "hidden": [4], "activation": "tanh", "output": "tanh"}
    settings = {
        "num_episodes": 2,
        "episode_length": 1000,
        "num_test_episodes": 100,
        "normalize_observations": True,
        "observation_clip": 10.0,
        "alive_penalty": 0.0,
        "discount": 1.0,
        "episode_cap": None,
        "num_lanes": None,
        "aggregate": None,
    }
    assert problem.spec == {"environment": environment, "policy": policy, "problem": settings}
    assert jaxes.problems.brax("fast").spec["policy"]["hidden"] == [32, 32]
    assert isinstance(hash(problem), int)


def test_a_function_is_a_problem():
    expected = {"problem": {"name": "sphere", "num_dims": 10}}
    assert jaxes.problems.functions.sphere().spec == expected


def test_what_a_config_cannot_say_has_no_spec():
    def policy(observation_size, action_size):
        return jaxes.policies.mlp()(observation_size, action_size)

    environment = jaxes.environments.brax("fast")
    assert jaxes.problems.policy_search(environment, policy).spec is None
    mine = environment._replace(spec=None)
    assert jaxes.problems.policy_search(mine).spec is None
    problem = jaxes.problems.function(lambda x: x.sum(), lambda key: jnp.zeros(2))
    assert problem.spec is None
    assert jaxes.policies.flax(lambda size: None).spec is None


def test_a_strategy_has_its_section():
    def cem(population_size, *, sigma=1.0, weights="elite"):
        return jaxes.cem(population_size, sigma=sigma, weights=weights)

    cem = recorded(of_strategy)(cem)
    spec = {"name": "cem", "population_size": 32, "cem": {"sigma": 2.0, "weights": "elite"}}
    assert cem(32, sigma=2.0).spec == spec
    assert cem(32, weights=jaxes.weights.elite).spec is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (jnp.int32(3), 3),
        ((1, "a", None), [1, "a", None]),
        ({"a": (True,)}, {"a": [True]}),
    ],
)
def test_plain_data(value, expected):
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize("value", [abs, jnp.zeros(2), {1: 2}, object()])
def test_other_data_is_not_plain(value):
    with pytest.raises(TypeError, match="no plain data"):
        plain(value)
