import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.flatten_util import ravel_pytree
from worlds import point

import jaxes
from jaxes import policies
from jaxes.policies import Policy

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


class Cell(nn.Module):
    size: int

    @nn.compact
    def __call__(self, memory, x):
        memory, x = nn.GRUCell(3)(memory, x)
        return memory, nn.Dense(self.size)(x)


class Network(nnx.Module):
    def __init__(self, size, rngs):
        self.layer = nnx.Linear(2, size, rngs=rngs)
        self.scale = nnx.Variable(jnp.float32(2))

    def __call__(self, x):
        return self.scale[...] * self.layer(x)


class NetworkWithMemory(Network):
    def __call__(self, memory, x):
        return memory + 1, memory * super().__call__(x)


def test_any_linen_module_is_a_policy():
    policy = policies.flax(nn.Dense, output="none")(2, 3)
    params, x = policy.init(KEY), jnp.ones(2)
    action, memory = policy.apply(params, policy.initial_state, x)
    np.testing.assert_allclose(action, nn.Dense(3).apply(params, x), rtol=1e-6)
    assert memory == ()


def test_a_linen_cell_remembers():
    mine = policies.flax(Cell, initial_state=np.zeros(3, np.float32))(2, 1)
    action, memory = mine.apply(mine.init(KEY), mine.initial_state, jnp.ones(2))
    expected, theirs = Cell(1).init_with_output(KEY, jnp.zeros(3), jnp.ones(2))[0]
    np.testing.assert_allclose(memory, expected, rtol=1e-6)
    np.testing.assert_allclose(action, jnp.tanh(theirs), rtol=1e-6)


@pytest.mark.parametrize("draws", [True, False])
def test_an_nnx_module_is_a_policy(draws):
    make = Network if draws else lambda size: Network(size, nnx.Rngs(7))
    policy = policies.flax(make, output="none")(2, 3)
    params, again = policy.init(KEY), policy.init(jax.random.key(1))
    kernels = [ravel_pytree(each)[0] for each in (params, again)]
    assert kernels[0].shape == (9,)  # the scale is no parameter
    assert np.allclose(*kernels) != draws
    action, _ = jax.jit(policy.apply)(params, (), jnp.ones(2))
    network = Network(3, nnx.Rngs(KEY) if draws else nnx.Rngs(7))
    np.testing.assert_allclose(action, network(jnp.ones(2)), rtol=1e-5)


def test_an_nnx_module_with_memory_is_searched():
    policy = policies.flax(NetworkWithMemory, initial_state=lambda key: jnp.ones(()))
    environment = jaxes.Environment(
        lambda key: (jnp.zeros(()), jnp.ones(2)),
        lambda state, action: (state, jnp.ones(2), action[0], jnp.bool_(False)),
        action_size=1,
    )
    problem = jaxes.problems.policy_search(
        environment, policy, episode_length=3, normalize_observations=False, num_test_episodes=1
    )
    strategy = jaxes.openai_es(4)
    mean = problem.initial_mean(KEY)
    population = jaxes.Population(strategy.ask, KEY, strategy.init(mean), 4)
    tests = jax.jit(problem.evaluate)(KEY, population, problem.init(KEY), jaxes.core.TEST).tests
    output = Network(1, nnx.Rngs(KEY))(jnp.ones(2))[0]
    expected = sum(np.tanh(memory * output) for memory in (1, 2, 3))
    np.testing.assert_allclose(tests.returns, [expected], rtol=1e-4)


def own(apply, state=(), outputs=1):
    """A factory of policies of one matrix."""
    return lambda observation_size, num_outputs: policies.Policy(
        lambda key: jnp.zeros((observation_size, outputs)), state, apply
    )


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (policies.flax(lambda size: 3), "make_module must be a function to a module of flax"),
        (policies.flax(lambda size: nn.Dense(size + 1)), r"policy must be of 1 outputs"),
        (lambda *sizes: nn.Dense(1), "policy must be a function to a jaxes.policies.Policy"),
        (policies.flax(lambda size: Cell(size)), "policy fails: TypeError"),
        (nn.Dense(1), "policy fails with .* becomes one by jaxes.policies.flax"),
        (
            own(lambda p, s, x: (x @ p, s), outputs=2),
            "policy must be of 1 outputs, .* got 'float32",
        ),
        (
            own(lambda p, s, x: x @ p),
            r"policy.apply must be a function to \(outputs \[A\], policy_s",
        ),
        (own(lambda p, s, x: (x @ p, s + 0.5), state=0), "memory must be like its initial_state"),
        (own(lambda p, s, x: (jnp.argmax(x, keepdims=True), s)), "floats of shape"),
        (own(lambda p, s, x: 1 / 0), "policy fails: ZeroDivisionError"),
    ],
)
def test_what_is_no_policy_is_refused(policy, message):
    environment = jaxes.Environment(
        lambda key: (jnp.zeros(()), jnp.ones(2)),
        lambda state, action: (state, jnp.ones(2), action[0], jnp.bool_(False)),
        action_size=1,
    )
    with pytest.raises(ValueError, match=message):
        jaxes.problems.policy_search(environment, policy)


@pytest.mark.parametrize("params", [{}, {"w": jnp.zeros(2, jnp.int32)}])
def test_a_policy_has_parameters_and_they_are_floats(params):
    def still(observation_size, action_size):
        return Policy(lambda key: params, (), lambda p, memory, seen: (jnp.zeros(1), memory))

    with pytest.raises(ValueError, match=r"policy.init must be a function to parameters"):
        jaxes.problems.policy_search(point(), still)
