"""Cartpole and pendulum, against plain Python, and what an environment may tell of itself beside
`reset` and `step`: `with_key`, `reward_fn`, `done_fn`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.config.run import Config
from jaxes.environments import Environment, observation_size
from jaxes.environments.base import tidied

MAKES = [jaxes.environments.continuous_cartpole, jaxes.environments.pendulum]
NUM_EPISODES = 1000
LENGTH = 205  # beyond the end of both


@pytest.fixture(scope="module", params=MAKES, ids=lambda make: make.__name__)
def walked(request):
    """An environment, actions and what it told of them: states and observations before; then
    observations, rewards and ends, and the latter two again by `reward_fn` and `done_fn`; each
    [NUM_EPISODES, LENGTH, ...]."""
    environment = request.param()
    # Beyond [-1, 1], within, and hardly any.
    scales = np.resize([3, 1, 0.1, 0.01], NUM_EPISODES)[:, None, None]
    noise = np.random.default_rng(0).uniform(-1, 1, (NUM_EPISODES, LENGTH, 1))
    actions = jnp.asarray(scales * noise, jnp.float32)

    @jax.jit
    @jax.vmap
    def episode(key, actions):
        def step(carry, action):
            state, observation = carry
            after, *told = environment.step(state, action)
            expected = (
                environment.reward_fn(observation, action, told[0]),
                environment.done_fn(told[0]),
            )
            return (after, told[0]), (state, observation, *told, *expected)

        return jax.lax.scan(step, environment.reset(key), actions)[1]

    told = episode(jax.random.split(jax.random.key(0), NUM_EPISODES), actions)
    return environment, np.asarray(actions), jax.tree.map(np.asarray, told)


def cartpole(state, action):
    """As in Florian (2007), "Correct equations for the dynamics of the cart-pole system", without
    friction: the equations of motion as a linear system in both accelerations."""
    x, x_dot, theta, theta_dot = map(float, state)
    g, cart, pole, half = 9.8, 1.0, 0.1, 0.5
    force = 10 * min(max(float(action), -1), 1)
    # (M + m) ẍ + m l cos θ θ̈ = F + m l θ̇² sin θ;  cos θ ẍ + 4/3 l θ̈ = g sin θ
    masses = [[cart + pole, pole * half * math.cos(theta)], [math.cos(theta), 4 / 3 * half]]
    forces = [force + pole * half * theta_dot**2 * math.sin(theta), g * math.sin(theta)]
    x_acc, theta_acc = np.linalg.solve(masses, forces)
    after = [x + 0.02 * x_dot, x_dot + 0.02 * x_acc]
    after += [theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc]
    return after, after, 1.0, abs(after[0]) > 2.4 or abs(after[2]) > math.pi / 15


def pendulum(state, action):
    theta, speed = map(float, state)
    torque = 2 * min(max(float(action), -1), 1)
    angle = math.remainder(theta, 2 * math.pi)
    reward = -(angle**2) - speed**2 / 10 - torque**2 / 1000
    speed = min(max(speed + 0.05 * (15 * math.sin(theta) + 3 * torque), -8), 8)
    theta += 0.05 * speed
    return [theta, speed], [math.cos(theta), math.sin(theta), speed], reward, False


THEIRS = {"continuous_cartpole": cartpole, "pendulum": pendulum}


def test_episodes_are_those_of_plain_python(walked):
    """A step at a time from the states that are there, since pendulums are chaotic."""
    environment, actions, (before, _, observations, rewards, ends, *_) = walked
    theirs = THEIRS[environment.name]
    *physics, steps = before
    states = np.stack(physics, axis=-1)
    lasts = np.argmax(ends, axis=1)
    for episode, last in enumerate(lasts[:8]):
        told = [theirs(*each) for each in zip(states[episode], actions[episode, :, 0], strict=True)]
        after, seen, reward, failed = map(np.asarray, zip(*told[: last + 1], strict=True))
        now = slice(last + 1)
        close = {"rtol": 1e-5, "atol": 1e-5}
        np.testing.assert_allclose(states[episode, 1 : last + 2], after, **close)
        np.testing.assert_allclose(observations[episode, now], seen, **close)
        np.testing.assert_allclose(rewards[episode, now], reward, **close)
        np.testing.assert_array_equal(ends[episode, now], failed | (np.arange(last + 1) == 199))
    np.testing.assert_array_equal(steps, np.broadcast_to(np.arange(LENGTH), steps.shape))
    if environment.name == "pendulum":
        assert (lasts == 199).all()
    else:
        assert len(set(lasts[:8])) > 4  # some fall early, some late


@pytest.mark.parametrize("make", MAKES)
def test_a_step_from_far_out_is_that_of_plain_python(make):
    """Where tracks end, pendulums have turned more than once, and speeds are at their bound."""
    environment = make()
    high = {"continuous_cartpole": [2.6, 3, 0.23, 3], "pendulum": [12, 8]}[environment.name]
    draws = np.random.default_rng(2).uniform(-1, 1, (300, len(high) + 1)).astype(np.float32)
    states, actions = draws[:, :-1] * np.float32(high), 1.5 * draws[:, -1:]
    start, _ = jax.eval_shape(environment.reset, jax.random.key(0))
    before = type(start)(*states.T, np.zeros(300, np.int32))
    *_, observations, rewards, ends = jax.jit(jax.vmap(environment.step))(before, actions)
    told = [THEIRS[environment.name](*each) for each in zip(states, actions[:, 0], strict=True)]
    _, seen, reward, failed = map(np.asarray, zip(*told, strict=True))
    np.testing.assert_allclose(observations, seen, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rewards, reward, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ends, failed)


def test_what_is_seen_tells_reward_and_end(walked):
    environment, _, (_, before, after, rewards, ends, seen_rewards, seen_ends) = walked
    np.testing.assert_array_equal(before[:, 1:], after[:, :-1])
    np.testing.assert_allclose(seen_rewards, rewards, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(seen_ends[:, :199], ends[:, :199])
    assert ends[:, 199:].all()
    if environment.name == "pendulum":
        assert not seen_ends.any()


def test_episodes_start_where_they_should(walked):
    environment, _, (states, observations, *_) = walked
    *started, _ = (each[:, 0] for each in states)
    seen = started
    if environment.name == "pendulum":
        seen = [np.cos(started[0]), np.sin(started[0]), started[1]]
    np.testing.assert_allclose(observations[:, 0], np.transpose(seen), atol=1e-6)
    high = {"continuous_cartpole": [0.05] * 4, "pendulum": [math.pi, 1]}[environment.name]
    np.testing.assert_allclose(np.abs(started).max(axis=1), high, rtol=0.02)
    np.testing.assert_allclose(np.mean(started, axis=1) / high, 0, atol=0.06)
    np.testing.assert_allclose(np.std(started, axis=1) / high, 3**-0.5, rtol=0.05)  # uniform


def test_a_pendulum_is_gymnax_own():
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("Pendulum-v1")
    environment = jaxes.environments.pendulum()
    mine, _ = jax.jit(environment.reset)(jax.random.key(0))
    _, theirs = jax.jit(env.reset_env)(jax.random.key(0), params)
    theirs = theirs.replace(theta=mine.theta, theta_dot=mine.theta_dot)
    step, their_step = jax.jit(environment.step), jax.jit(env.step_env)
    for action in np.random.default_rng(1).uniform(-1.5, 1.5, (20, 1)).astype(np.float32):
        mine, observation, reward, done = step(mine, action)
        expected, theirs, their_reward, their_done, _ = their_step(
            jax.random.key(0), theirs, 2 * action, params
        )
        np.testing.assert_allclose(observation, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(reward, their_reward, rtol=1e-4)
        assert not done
        assert not their_done


@pytest.mark.parametrize("make", MAKES)
def test_configs_name_them(make):
    environment = make()
    assert environment.spec == {"name": make.__name__}
    assert observation_size(environment) == {"pendulum": 3}.get(make.__name__, 4)
    assert tidied(environment) is environment
    config = {
        "environment": {"name": make.__name__},
        "policy": {"name": "linear"},
        "strategy": {"name": "cem", "population_size": 16},
        "training": {"num_generations": 1},
    }
    assert Config(config).build().problem.environment.spec == environment.spec


def test_a_replaced_key_changes_later_noise_only():
    """Rewards of gymnax's UmbrellaChain are thrown with a coin."""
    pytest.importorskip("gymnax")
    environment = jaxes.environments.gymnax("UmbrellaChain-bsuite")
    state, _ = jax.jit(environment.reset)(jax.random.key(0))
    key = jax.random.key(1)

    @jax.jit
    def rewards(state):
        def step(state, _):
            state, _, reward, _ = environment.step(state, jnp.int32(0))
            return state, reward

        return jax.lax.scan(step, state, length=9)[1]

    replaced = environment.with_key(state, key)
    jax.tree.map(np.testing.assert_array_equal, replaced[0], state[0])
    assert replaced[1] == key
    assert (rewards(replaced) != rewards(state)).any()
    again = environment.with_key(replaced, state[1])
    np.testing.assert_array_equal(rewards(again), rewards(state))


def mine(**replaced):
    """An environment of one number and a key, whose observation [2] is a dict."""

    def observe(state):
        return {"place": state[0], "far": state[0] > 1}

    def reset(key):
        state = (jnp.zeros(()), key)
        return state, observe(state)

    def step(state, action):
        state = (state[0] + action[0], state[1])
        return state, observe(state), 1, 0.0

    return Environment(reset, step, action_size=1, name="'mine'", **replaced)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"with_key": lambda state: state}, r"'mine': with_key\(env_state, key\) fails: TypeError"),
        ({"with_key": 3}, r"'mine': with_key\(env_state, key\) fails: TypeError"),
        (
            {"with_key": lambda state, key: (state[0], jax.random.key_data(key))},
            r"with_key\(env_state, key\) must be a state like reset's, .*<fry>.*got .*uint32\[2\]",
        ),
        (
            {"reward_fn": lambda before, action, after: before["place"]},
            r"'mine': reward_fn\(observation, action, next_observation\) fails: TypeError",
        ),
        (
            {"reward_fn": lambda before, action, after: before - after},
            r"'mine': reward_fn\(.*\) must be \[\], a float, got 'float32\[2\]'",
        ),
        (
            {"done_fn": lambda before, after: False},
            r"'mine': done_fn\(next_observation\) fails: TypeError",
        ),
        (
            {"done_fn": lambda after: None},
            r"'mine': done_fn\(next_observation\) must be \[\], a bool, got 'None'",
        ),
        ({"dt": -0.1}, "'mine': dt must be positive, got -0.1"),
        ({"render": "gl"}, "'mine': render must be a function or None, got 'gl'"),
    ],
)
def test_what_an_environment_tells_wrongly_is_refused(replaced, message):
    with pytest.raises(ValueError, match=message):
        observation_size(mine(**replaced))


def test_rewards_and_ends_are_told_of_the_flattened_observation():
    environment = mine(
        with_key=lambda state, key: (state[0], key),
        reward_fn=lambda before, action, after: jnp.int32(after[1] - before[1] + action[0]),
        done_fn=lambda after: after[0],  # "far", the first of the sorted keys
        dt=0.5,
        render=print,
    )
    assert observation_size(environment) == 2
    tidy = tidied(environment)
    assert tidied(tidy) is tidy
    assert (tidy.dt, tidy.render) == (0.5, print)
    state, before = tidy.reset(jax.random.key(0))
    state, after, *_ = tidy.step(tidy.with_key(state, jax.random.key(1)), jnp.array([3.0]))
    reward, done = tidy.reward_fn(before, jnp.array([3.0]), after), tidy.done_fn(after)
    assert (reward.dtype, done.dtype) == (jnp.float32, jnp.bool_)
    assert (float(reward), bool(done), bool(tidy.done_fn(before))) == (6, True, False)


def test_an_environment_whose_told_numbers_alone_are_none_is_tidied():
    """A vector, a float and a bool from `step`, but 0 and 1 from `done_fn`."""
    cart = jaxes.environments.continuous_cartpole()
    tidy = tidied(cart._replace(done_fn=lambda after: 1 * cart.done_fn(after)))
    assert tidy.done_fn(jnp.array([3.0, 0, 0, 0])).dtype == bool
