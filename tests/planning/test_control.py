"""Whole episodes."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import line, point

import jaxes
from jaxes.planning import planner, reach, true_model
from jaxes.planning.control import _program
from jaxes.policies import Policy

POINT = point(num_steps=10)
PLANNER = planner(jaxes.cem(16, sigma=0.5, elite_fraction=0.25), horizon=4, iterations=2)
MODEL = true_model(POINT)


def run(environment=POINT, searched=PLANNER, model=None, **options):
    options = {"num_episodes": 3, "episode_length": 12} | options
    return jaxes.control(environment, searched, model or true_model(environment), **options)


def test_episodes_end_where_the_environment_ends_them():
    episodes = run()
    np.testing.assert_array_equal(episodes.length, 10)
    np.testing.assert_array_equal(episodes.dones[:, 9:], [[True, False, False]] * 3)
    np.testing.assert_array_equal(episodes.rewards[:, 10:], 0)
    assert not np.any(episodes.truncated)
    assert not np.any(episodes.diverged)


def test_the_same_seed_is_the_same_episode_and_another_is_another():
    np.testing.assert_array_equal(run().actions, run().actions)
    assert not np.array_equal(run(seed=1).actions, run().actions)


def test_one_program_for_the_same_arguments():
    _program.cache_clear()
    traces = []

    def step(state, action):
        traces.append(1)
        return POINT.step(state, action)

    environment = POINT._replace(step=step)
    model = true_model(environment)
    run(environment, model=model)
    count = len(traces)
    run(environment, model=model, seed=1)
    # Checks look at the functions again; nothing is compiled.
    assert _program.cache_info().misses == 1
    assert len(traces) - count < count


def test_what_diverges_is_told_and_leaves_the_others_alone():
    def step(state, action):
        (x, steps), observation, reward, done = POINT.step(state, action)
        lost = (x[0] > 0) & (steps == 3)
        return (x, steps), observation, jnp.where(lost, jnp.nan, reward), done

    environment = POINT._replace(step=step)
    episodes = run(environment, model=MODEL, num_episodes=8)
    assert 0 < episodes.diverged.sum() < 8
    np.testing.assert_array_equal(episodes.length, np.where(episodes.diverged, 3, 10))
    assert np.all(np.isfinite(episodes.returns))


def test_a_policy_is_the_mean_of_the_first_search():
    """Of one plan that is not searched further: equal fitness leaves the mean as it was."""
    nothing = jaxes.planning.Objective(np.float32(0), lambda x, moment: x, lambda x, last: x)
    searched = PLANNER._replace(objective=nothing, execute="mean")
    problem = jaxes.problems.policy_search(POINT, jaxes.policies.mlp((4,)))
    mean = jax.random.normal(jax.random.key(1), problem.initial_mean(jax.random.key(0)).shape)
    policy = problem.policy(mean, problem.init(jax.random.key(0)))
    episodes = run(searched=searched, policy=policy, num_episodes=2)
    for seen, actions in zip(episodes.observations, episodes.actions, strict=True):
        for t in range(4):  # as long as the first plan lasts
            expected, _ = policy.apply(policy.init(jax.random.key(0)), (), seen[t])
            np.testing.assert_allclose(actions[t], np.clip(expected, -1, 1), atol=1e-5)


def test_a_target_is_reached_without_a_reward():
    blind = POINT._replace(step=lambda *inputs: (*POINT.step(*inputs)[:2], 0.0, jnp.bool_(False)))
    searched = planner(
        jaxes.cem(48, sigma=0.5, elite_fraction=0.2),
        horizon=12,
        objective=reach((0.5, 0.0), "every_step"),
    )
    episodes = run(blind, searched, num_episodes=4, episode_length=40)
    np.testing.assert_allclose(episodes.observations[:, -1], [[0.5, 0.0]] * 4, atol=0.05)
    np.testing.assert_array_equal(episodes.returns, 0)


def test_a_moving_target_is_followed():
    def goal(step):
        return jnp.stack([0.5 * jnp.sin(step * 0.2), jnp.float32(0)])

    searched = planner(
        jaxes.cem(48, sigma=0.5, elite_fraction=0.2),
        horizon=10,
        objective=reach(goal, "every_step", weights=(1.0, 0.0)),
    )
    free = point(num_steps=1000)
    episodes = run(free, searched, num_episodes=4, episode_length=60)
    np.testing.assert_array_equal(episodes.length, 60)
    assert np.all(episodes.truncated)
    steps = np.arange(30, 61)
    np.testing.assert_allclose(
        episodes.observations[:, 30:, 0], [0.5 * np.sin(steps * 0.2)] * 4, atol=0.1
    )


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="num_episodes must be a whole number of at least 1"):
        run(num_episodes=0)
    with pytest.raises(ValueError, match="policy must be a Policy"):
        run(policy=lambda observation: observation)
    problem = jaxes.problems.policy_search(jaxes.environments.continuous_cartpole())
    mean = problem.initial_mean(jax.random.key(0))
    of_another = problem.policy(mean, problem.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="policy fails with 2 observations"):
        run(policy=of_another)
    with pytest.raises(ValueError, match=r"model\.observation_size must be 2, as point"):
        run(model=line())
    with pytest.raises(ValueError, match="planner must be made by"):
        jaxes.control(POINT, jaxes.cem(16), MODEL)
    with pytest.raises(ValueError, match="model must be a Model"):
        jaxes.control(POINT, PLANNER, POINT)
    forgets = Policy(lambda key: (), (), lambda params, memory, x: (jnp.zeros(1), x))
    with pytest.raises(ValueError, match="policy's memory must be like its initial_state"):
        run(policy=forgets)
    with pytest.raises(ValueError, match=r"model\.start fails: IndexError"):
        run(model=line()._replace(observation_size=2, start=lambda state, x: x[7, 7]))
    with pytest.raises(ValueError, match="model_state must be like what"):
        run(model_state="runs/x")
    learns = jaxes.planning.ensemble_model(POINT)
    with pytest.raises(ValueError, match="model_state must be given for a model that learns"):
        run(model=learns)


SAME_BITS = """
import sys
import jaxes
jaxes.use_cpu_devices(int(sys.argv[1]))
import numpy as np
environment = jaxes.environments.pendulum()
plans = jaxes.planning.planner(jaxes.snes(8), horizon=4, iterations=2)
model = jaxes.planning.true_model(environment)
episodes = jaxes.control(environment, plans, model, num_episodes=35, episode_length=12)
assert episodes.returns.shape == (35,)
print(np.asarray(episodes.actions).tobytes().hex())
"""


@pytest.mark.slow
def test_the_number_of_devices_does_not_show():
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    commands = ([sys.executable, "-c", SAME_BITS, str(devices)] for devices in (1, 3))
    said = {
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        for command in commands
    }
    assert len(said) == 1
