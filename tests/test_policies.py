import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxes import policies

KEY = jax.random.key(0)


def test_mlp_is_the_network_it_says():
    policy = policies.mlp(hidden=(4, 3), activation="relu", output="clip")(2, 1)
    params = policy.init(KEY)["params"]
    x = jnp.array([0.3, -2.0])
    expected = x
    for layer in ("Dense_0", "Dense_1"):
        expected = jnp.maximum(expected @ params[layer]["kernel"] + params[layer]["bias"], 0)
    expected = expected @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]
    action, state = policy.apply({"params": params}, policy.initial_state, x)
    np.testing.assert_allclose(action, jnp.clip(expected, -1, 1), rtol=1e-5)
    assert state == ()


def test_linear_starts_at_zero_and_has_no_bias():
    policy = policies.linear()(3, 2)
    params = policy.init(KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 6
    np.testing.assert_array_equal(policy.apply(params, (), jnp.ones(3))[0], jnp.zeros(2))
    big = jax.tree.map(lambda leaf: leaf + 10, params)
    np.testing.assert_array_equal(policy.apply(big, (), jnp.ones(3))[0], jnp.ones(2))


def test_gru_remembers():
    policy = policies.gru(hidden_size=5)(2, 1)
    params = policy.init(KEY)
    first, memory = policy.apply(params, policy.initial_state, jnp.ones(2))
    second, _ = policy.apply(params, memory, jnp.ones(2))
    assert first.shape == (1,)
    assert memory.shape == (5,)
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: policies.mlp(hidden=(8, 0)), "hidden must be a whole number of at least 1, got 0"),
        (
            lambda: policies.mlp(activation="tan"),
            r"one of tanh, .* got 'tan'; did you mean 'tanh'\?",
        ),
        (lambda: policies.linear(output="softmax"), "output must be one of tanh, clip, none"),
        (lambda: policies.gru(hidden_size=0), "hidden_size must be a whole number"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
