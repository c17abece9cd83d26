"""Brax: the engine against Brax's own stepping, and policies trained to a known score."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.core import Population


@pytest.mark.slow
def test_episodes_are_those_of_the_bare_environment():
    """Two members × two episodes, against one environment stepped in a plain scan."""
    from brax import envs

    length, num_episodes = 60, 2
    policy = jaxes.policies.linear()
    problem = jaxes.problems.brax(
        "inverted_pendulum",
        policy=policy,
        episode_length=length,
        num_episodes=num_episodes,
        num_test_episodes=1,
        observation_clip=1e6,  # before the first statistics normalization changes nothing else
        alive_penalty=1.0,
        num_lanes=3,
    )
    strategy = jaxes.cem(2, elite_fraction=1.0, sigma=0.3)
    key = jax.random.key(0)
    state = strategy.init(problem.initial_mean(key))
    population = Population(strategy.ask, key, state, 2)
    evaluation = jax.jit(problem.evaluate)(key, population, problem.init(key))

    env = envs.get_environment("inverted_pendulum", backend="spring")

    @jax.jit
    def episode(weights, episode_key):
        def step(carry, _):
            state, alive = carry
            action = state.obs @ weights.reshape(-1, env.action_size)
            state = env.step(state, action.clip(-1, 1))
            return (state, alive & (state.done == 0)), (state.reward, alive)

        first = env.reset(episode_key)
        _, (rewards, alive) = jax.lax.scan(step, (first, True), length=length)
        return (rewards * alive).sum(), alive.sum()

    keys = [jax.random.fold_in(key, number) for number in range(num_episodes)]
    steps = 0
    for member, weights in enumerate(population()):
        returns, lengths = np.transpose([episode(weights, key) for key in keys])
        steps += lengths.sum()
        np.testing.assert_allclose(
            evaluation.fitness[member], np.mean(returns - lengths), rtol=1e-3, atol=1e-3
        )
    assert evaluation.metrics["rollout/env_steps"] == steps
    assert evaluation.problem_state.observations.count == steps


def counter(reward, done):
    """An object of one's own, as Brax's are."""
    from brax.envs.base import Env, State

    class Counter(Env):
        """Counts its steps, for one of reward each, and never ends."""

        observation_size = action_size = 1
        backend = "none"

        def reset(self, rng):
            return State(None, jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))

        def step(self, state, action):
            return state.replace(obs=state.obs + 1, reward=reward, done=done)

    return jaxes.problems.brax(
        Counter(), policy=jaxes.policies.linear(), episode_length=5, num_test_episodes=3
    )


@pytest.mark.parametrize(("reward", "done"), [(1.0, 0.0), (1, False)])
def test_an_environment_object_whose_reward_and_end_are_plain_numbers(reward, done):
    environment = counter(reward, done).environment
    state, _ = environment.reset(jax.random.key(0))
    _, _, reward, done = environment.step(state, jnp.zeros(1))
    assert (reward, reward.dtype, done, done.dtype) == (1, jnp.float32, False, jnp.bool_)


def test_an_environment_object_of_whole_numbers_is_trained():
    problem = counter(jnp.int32(1), jnp.int32(0))
    result = jaxes.train(problem, jaxes.cem(12), num_generations=2)
    assert (result.return_mean, result.return_std, result.env_steps) == (5, 0, 2 * 12 * 5)


@pytest.fixture
def constructors(monkeypatch):
    """Of public files: a robot without arguments, a fixed pipeline, options passed on."""
    from brax import envs
    from brax.envs.fast import Fast

    class Bare(Fast):
        def __init__(self):
            super().__init__()

    class Dict(Fast):
        def __init__(self, gain=1.0):
            super().__init__(obs_mode="dict_pixels_state")
            self.gain = gain

    class Fixed(Fast):
        def __init__(self, **kwargs):
            self.fixed(backend="mjx", **kwargs)
            super().__init__()

        def fixed(self, backend="spring"):
            assert backend == "mjx"

    for env in (Bare, Dict, Fixed):
        monkeypatch.setitem(envs._envs, env.__name__, env)
    return envs


@pytest.mark.parametrize("name", ["Bare", "Dict", "Fixed"])
def test_what_brax_makes_runs(name, constructors):
    """Constructors that take no backend, and observations that are a dict."""
    theirs = constructors.get_environment(name).reset(jax.random.key(0)).obs
    problem = jaxes.problems.brax(
        name, policy=jaxes.policies.linear(), episode_length=4, num_test_episodes=2
    )
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(theirs))
    assert problem.initial_mean(jax.random.key(0)).size == size * problem.environment.action_size
    state, observation = problem.environment.reset(jax.random.key(0))
    _, after, reward, _ = jax.jit(problem.environment.step)(state, jnp.ones(1))
    assert observation.shape == after.shape == (size,)
    assert np.isfinite(reward)


def test_a_backend_that_an_environment_does_not_take_is_refused(constructors):
    with pytest.raises(ValueError, match="backend must be left out: 'Bare' chooses its own"):
        jaxes.environments.brax("Bare", "mjx")


def test_what_brax_prints_and_writes_is_kept_away(tmp_path):
    code = "import jaxes; jaxes.problems.brax('inverted_pendulum')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("walker",), r"env_name must be one of ant, .* got 'walker'; did you mean 'walker2d'\?"),
        (("swimmer",), "brax's 'swimmer' fails in its own code"),
        (("hopper", "sprong"), "backend must be .* got 'sprong'; did you mean 'spring'"),
    ],
)
def test_environments_that_cannot_be_had_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxes.problems.brax(arguments[0], **dict(zip(["backend"], arguments[1:], strict=False)))


def test_every_listed_environment_is_one_of_brax():
    from brax.envs import _envs

    assert set(jaxes.environments.BRAX_ENVIRONMENTS) == set(_envs)


def test_numbers_of_the_physics_are_divided_while_it_is_traced():
    """What XLA makes of the quotient of two constants depends on the program around it: humanoid
    had other last bits on one device than on two."""
    from brax.envs.inverted_pendulum import InvertedPendulum

    seen = []

    class Pendulum(InvertedPendulum):
        def step(self, state, action):
            seen.append(self.sys.baumgarte_erp / self.sys.opt.timestep)
            return super().step(state, action)

    mine = Pendulum(backend="spring")
    given = mine.sys
    environment = jaxes.environments.brax(mine)
    leaves, structure = jax.tree.flatten(environment.system)

    def step(leaves):
        here = environment.with_system(jax.tree.unflatten(structure, leaves))
        return here.step(here.reset(jax.random.key(0))[0], jnp.zeros(1))[2]

    jax.eval_shape(lambda: environment.step(environment.reset(jax.random.key(0))[0], jnp.zeros(1)))
    jax.eval_shape(lambda: step(leaves))
    assert [type(quotient) for quotient in seen] == [np.float32] * 2
    jax.eval_shape(step, leaves)  # randomized: what is drawn is traced
    assert isinstance(seen[-1], jax.core.Tracer)
    assert mine.sys is given
