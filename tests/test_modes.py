"""What a user sets for all of JAX changes nothing: strict promotion of dtypes, and no jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes

CLIPPED = jaxes.Environment(
    lambda key: (jnp.zeros(()), jnp.zeros(1)),
    lambda t, action: (t + 1, jnp.zeros(1), -jnp.sum(action**2), t > 4),
    action_size=1,
    name="clipped",
)


def search(**options):
    options = {"episode_length": 8, "num_test_episodes": 4, "num_lanes": 4} | options
    return jaxes.problems.policy_search(CLIPPED, jaxes.policies.gru(3), **options)


@pytest.mark.parametrize("name", jaxes.STRATEGIES)
def test_strategies_promote_no_dtype_in_silence(name):
    problem, strategy = jaxes.problems.functions.rosenbrock(3), jaxes.STRATEGIES[name](20)
    with jax.numpy_dtype_promotion("strict"):
        state = jaxes.init(jax.random.key(0), strategy, problem)
        jax.eval_shape(jaxes.make_update_step(strategy, problem), jax.random.key(0), state)


@pytest.mark.parametrize("sampling", ["antithetic", "orthogonal", "sobol"])
def test_sampling_promotes_no_dtype_in_silence(sampling):
    strategy = jaxes.snes(300, sampling=sampling)
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(strategy.ask, jax.random.key(0), strategy.init(jnp.zeros(3)))


@pytest.mark.parametrize("options", [{}, {"normalize_observations": False, "num_episodes": 2}])
def test_rollouts_promote_no_dtype_in_silence(options):
    problem, strategy = search(**options), jaxes.openai_es(8)
    with jax.numpy_dtype_promotion("strict"):
        state = jaxes.init(jax.random.key(0), strategy, problem)
        jax.eval_shape(jaxes.make_update_step(strategy, problem), jax.random.key(0), state)


@pytest.mark.parametrize("options", [{"host": True}, {"restarts": "bipop", "bounds": (-2, 2)}])
def test_searches_promote_no_dtype_in_silence(options):
    def fn(x):
        return ((x - 1) ** 2).sum(axis=-1)

    with jax.numpy_dtype_promotion("strict"):
        assert jaxes.minimize(fn, np.zeros(2), budget=150, **options).value < 2


def test_training_without_jit_is_training(tmp_path):
    problem, strategy = jaxes.problems.functions.sphere(3), jaxes.openai_es(8)
    jitted = jaxes.train(problem, strategy, num_generations=2)
    with jax.disable_jit():
        run = jaxes.train(problem, strategy, num_generations=2, run_dir=tmp_path)
        tested = jaxes.evaluate(tmp_path, problem, strategy, num_episodes=4)
    assert run.return_mean == jitted.return_mean
    assert np.isfinite(tested.return_mean)


def test_a_strategy_without_the_memory_is_refused_before_it_is_compiled(monkeypatch):
    monkeypatch.setattr(jaxes.devices, "free_bytes", lambda: 10**7)
    problem = jaxes.problems.functions.sphere(3000)
    with pytest.raises(ValueError, match=r"at 3,000 parameters this one needs about 0.2 GB"):
        jaxes.train(problem, jaxes.cma_es(16), num_generations=1)
    jaxes.init(jax.random.key(0), jaxes.sep_cma_es(16), problem)
