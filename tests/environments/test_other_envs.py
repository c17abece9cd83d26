"""gymnax and MuJoCo Playground: both extras, so that each test needs its package."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapters import gymnax_environment

import jaxes
from jaxes.environments import observation_size
from jaxes.environments import playground as playground_environment


@pytest.fixture
def gymnax():
    return pytest.importorskip("gymnax")


def test_a_gymnax_episode_is_gymnax_own(gymnax):
    """CartPole under a fixed action, against gymnax's step without auto-reset."""
    environment = gymnax_environment("CartPole-v1")
    assert observation_size(environment) == 4
    assert environment.action_size == 2
    (state, key), observation = environment.reset(jax.random.key(3))
    env, params = gymnax.make("CartPole-v1")
    theirs, done, steps = state, False, 0
    now = (state, key)
    while not done:
        expected, theirs, reward, ends, _ = env.step_env(key, theirs, 1, params)
        now, observation, got, done = environment.step(now, jnp.array([-0.2, 0.7]))
        np.testing.assert_allclose(observation, expected, rtol=1e-6)
        assert (got, done) == (reward, ends)
        steps += 1
    assert 5 < steps < 15  # pushed one way, the pole falls at once


def test_continuous_actions_are_stretched_to_their_bounds(gymnax):
    environment = gymnax_environment("Pendulum-v1")
    env, params = gymnax.make("Pendulum-v1")
    now, _ = environment.reset(jax.random.key(0))
    _, observation, _, _ = environment.step(now, jnp.array([0.25]))
    expected = env.step_env(now[1], now[0], jnp.array([0.5]), params)[0]  # bounds are -2 and 2
    np.testing.assert_allclose(observation, expected, rtol=1e-5)


def ends(environment):
    """At which of 250 steps of standing still there is an end."""

    def step(state, _):
        state, _, _, done = environment.step(state, jnp.zeros(1))
        return state, done

    start, _ = environment.reset(jax.random.key(0))
    return 1 + np.flatnonzero(jax.lax.scan(step, start, length=250)[1])


def test_an_episode_ends_at_gymnax_own_time_limit(gymnax):
    assert ends(jaxes.environments.gymnax("Pendulum-v1"))[0] == 200


def test_linear_policies_balance_a_cart_pole(gymnax):
    problem = jaxes.problems.gymnax(
        "CartPole-v1", policy=jaxes.policies.linear(output="none"), num_test_episodes=20
    )
    result = jaxes.train(problem, jaxes.cem(32, elite_fraction=0.25), num_generations=15)
    assert result.return_mean > 400  # of 500; the zero policy falls after about 10
    assert result.zero_policy_return < 50


def test_playground_runs_on_this_machine():
    pytest.importorskip("mujoco_playground")
    environment = playground_environment("CartpoleBalance", None)
    assert (observation_size(environment), environment.action_size) == (5, 1)
    state, observation = jax.jit(environment.reset)(jax.random.key(0))
    _, observation, reward, done = jax.jit(environment.step)(state, jnp.zeros(1))
    assert np.isfinite(observation).all()
    assert 0 < reward <= 1  # an upright pole
    assert not done
    key = jax.random.key(1)
    replaced = environment.with_key(state, key)
    assert replaced.info["rng"] == key != state.info["rng"]
    assert replaced.data is state.data


def test_what_playground_would_download_is_refused():
    pytest.importorskip("mujoco_playground")
    with pytest.raises(ValueError, match="'Go1JoystickFlatTerrain' needs the models of MuJoCo Men"):
        playground_environment("Go1JoystickFlatTerrain", None)


@pytest.mark.parametrize("make", [jaxes.problems.gymnax, jaxes.problems.playground])
def test_unknown_environments_are_refused(make):
    pytest.importorskip("gymnax")
    pytest.importorskip("mujoco_playground")
    with pytest.raises(ValueError, match=r"env_name must be one of .* got 'Nothing'"):
        make("Nothing")


@pytest.mark.parametrize("make", [jaxes.problems.gymnax, jaxes.problems.playground])
def test_a_missing_extra_is_named(make, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    name = make.__name__
    with pytest.raises(ValueError, match=rf"'Any' needs the package \w+: .*'\.\[{name}\]'"):
        make("Any")


def test_gymnax_parameters_are_replaced_by_name(gymnax):
    problem = jaxes.problems.gymnax("Pendulum-v1", {"max_steps_in_episode": 7})
    assert ends(problem.environment)[0] == 7
    with pytest.raises(ValueError, match=r"env_params must be one of .*max_steps_in_episode"):
        jaxes.problems.gymnax("Pendulum-v1", {"max_steps": 7})


@pytest.mark.parametrize(
    ("name", "dt"),
    [
        ("CartPole-v1", 0.02),
        ("Acrobot-v1", 0.2),
        ("MountainCarContinuous-v0", None),
        ("Catch-bsuite", None),
    ],
)
def test_gymnax_environments_are_drawn(name, dt, gymnax):
    environment = gymnax_environment(name)
    states = [jax.jit(environment.reset)(jax.random.key(0))[0]]
    step, action = jax.jit(environment.step), jnp.arange(environment.num_outputs)[::-1] * 1.0
    for _ in range(12):
        states.append(step(states[-1], action)[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    frames = environment.render(stacked, 115, 76)
    assert (frames.shape, frames.dtype) == ((13, 76, 115, 3), np.uint8)
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 40
    assert environment.dt == dt


def test_what_nothing_draws_has_no_render(gymnax):
    assert gymnax_environment("UmbrellaChain-bsuite").render is None
