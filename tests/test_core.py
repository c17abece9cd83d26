import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from adapters import make_update_step

import jaxes
from jaxes.problems import functions


@pytest.fixture
def parts():
    strategy, problem = jaxes.cma_es(8), functions.rosenbrock(4)
    return strategy, problem, jaxes.init(jax.random.key(0), strategy, problem)


def assert_trees_equal(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_update_is_ask_evaluate_tell():
    strategy, problem, key = jaxes.snes(8), functions.rosenbrock(4), jax.random.key(1)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    new, metrics = jaxes.make_update_step(strategy, problem)(key, state)
    ask_key, evaluate_key = jax.random.split(key)
    population = jaxes.Population(strategy.ask, ask_key, state.strategy, 8)
    evaluation = problem.evaluate(evaluate_key, population, state.problem)
    expected = strategy.tell(ask_key, state.strategy, evaluation.fitness)
    assert_trees_equal(new.strategy, expected)
    assert new.generation == 1
    np.testing.assert_allclose(metrics["fitness/max"], evaluation.fitness.max())


def test_a_run_cut_in_two_is_the_same_run(parts):
    strategy, problem, state = parts
    step = jaxes.make_update_step(strategy, problem)
    key = jax.random.key(2)
    run = jax.jit(jaxes.run, static_argnums=(0, 3))
    whole, metrics = run(step, key, state, 10)
    middle, _ = run(step, key, state, 4)
    end, last = run(step, key, middle, 6)
    assert_trees_equal(whole, end)
    np.testing.assert_array_equal(metrics["fitness/mean"][4:], last["fitness/mean"])
    assert whole.generation == 10


def test_a_test_leaves_the_state_as_it_was(parts):
    strategy, problem, state = parts
    step = jax.jit(make_update_step(strategy, problem))
    same, metrics = step(jax.random.key(3), state, True)
    assert_trees_equal(same, state)
    optimum = jnp.asarray(functions.optimum(4))
    at_optimum = state._replace(strategy=state.strategy._replace(mean=optimum))
    _, metrics = step(jax.random.key(3), at_optimum, True)
    np.testing.assert_allclose(metrics["test/returns"], 0, atol=1e-6)


def test_states_can_be_vmapped(parts):
    strategy, problem, _ = parts
    step = jax.jit(jaxes.make_update_step(strategy, problem))
    keys = jax.random.split(jax.random.key(4), 3)
    states = jax.vmap(lambda key: jaxes.init(key, strategy, problem))(keys)
    mapped, _ = jax.jit(jax.vmap(step))(keys, states)
    for i in range(3):
        single, _ = step(keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], states))
        np.testing.assert_allclose(mapped.strategy.mean[i], single.strategy.mean, rtol=1e-5)


def some_tests():
    no = jnp.zeros(2, bool)
    return jaxes.Tests(jnp.zeros(2), jnp.zeros(2, int), no, no)


def evaluating(**changes):
    """A problem that is right, but for these parts of what it returns."""

    def evaluate(key, population, state, phase=0):
        fitness = -jnp.sum(population() ** 2, axis=1)
        right = jaxes.Evaluation(fitness, state, {"distance/mean": fitness.mean()})
        return right._replace(**{name: change(right) for name, change in changes.items()})

    return functions.sphere(3)._replace(
        init=lambda key, hparams=None: {"a": jnp.zeros(3)}, evaluate=evaluate
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fitness": lambda e: e.fitness[:-1]},
            r"Evaluation.fitness must be floats of shape \[8\]",
        ),
        ({"fitness": lambda e: e.fitness[:, None]}, r"fitness must be .* got 'float32\[8, 1\]'"),
        ({"fitness": lambda e: e.fitness + 1j}, "fitness must be floats .* got 'complex64"),
        ({"problem_state": lambda e: {}}, "Evaluation.problem_state must be like init's, {'a': 'f"),
        ({"problem_state": lambda e: {"a": jnp.zeros(2)}}, "problem_state must be like init's"),
        (
            {"problem_state": lambda e: {"a": jnp.zeros(3, int)}},
            "problem_state must be like init's",
        ),
        ({"metrics": lambda e: {"x": e.fitness}}, r"metrics\['x'\] must be a scalar, got .*\[8\]"),
        ({"metrics": lambda e: {"test/returns": e.fitness}}, "must be Evaluation.tests"),
        ({"metrics": lambda e: {"fitness/mean": 7.0}}, "the group none of fitness, test, time"),
        ({"metrics": lambda e: {"generation": 7.0}}, "name of a metric must be group/name"),
        ({"metrics": lambda e: [1.0]}, "Evaluation.metrics must be a dict"),
        ({"tests": lambda e: e.fitness}, "Evaluation.tests must be a jaxes.Tests"),
        (
            {"tests": lambda e: some_tests()._replace(returns=jnp.zeros(()))},
            "returns must be an",
        ),
        (
            {"tests": lambda e: some_tests()._replace(diverged=jnp.zeros(2, int))},
            "diverged must be an",
        ),
        ({"tests": lambda e: some_tests()._replace(diverged=jnp.zeros(2))}, "diverged must be an"),
        (
            {"tests": lambda e: some_tests()._replace(length=None)},
            r"must be an array \[E\]",
        ),
        ({"tests": lambda e: some_tests()._replace(length=jnp.zeros(3, int))}, "Tests of arrays"),
        ({"tests": lambda e: {}}, r"the names of Evaluation.tests must be strings .* got \[\]"),
        ({"tests": lambda e: {"a//b": some_tests()}}, r"without empty parts, .* got \['a//b'\]"),
        ({"tests": lambda e: {1: some_tests()}}, r"must be strings .* got \[1\]"),
        ({"tests": lambda e: {"a/held_out": some_tests()}}, "not all of them ending in randomized"),
        (
            {"tests": lambda e: {"base": some_tests(), "randomized": e.fitness}},
            r"Evaluation.tests\['randomized'\] must be a jaxes.Tests",
        ),
    ],
)
def test_what_a_problem_returns_is_looked_at(changes, message):
    strategy, problem = jaxes.snes(8), evaluating(**changes)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(jaxes.make_update_step(strategy, problem), jax.random.key(1), state)


def test_a_problem_has_its_parts():
    strategy = jaxes.snes(8)
    problem = functions.sphere(3)._replace(evaluate=lambda *arguments: jnp.zeros(8))
    state = jaxes.init(jax.random.key(0), strategy, problem)
    with pytest.raises(
        ValueError, match=r"evaluate must be a function to a jaxes\.Evaluation, got"
    ):
        jaxes.make_update_step(strategy, problem)(jax.random.key(0), state)
    with pytest.raises(ValueError, match=r"problem\.hparams must be a NamedTuple of numbers"):
        jaxes.train(functions.sphere(3)._replace(hparams=()), strategy, num_generations=1)
    with pytest.raises(ValueError, match="problem must be one whose Evaluation has `tests`"):
        jaxes.train(evaluating(), strategy, num_generations=1)


def test_fitness_metrics_leave_out_what_is_not_finite():
    metrics = jaxes.core.fitness_metrics(jnp.array([1.0, jnp.nan, 3.0, -jnp.inf]))
    assert metrics["fitness/mean"] == 2
    assert metrics["fitness/max"] == 3
    assert metrics["fitness/min"] == 1
    assert metrics["fitness/non_finite"] == 2


def test_import_starts_no_backend_and_says_nothing(tmp_path):
    code = (
        "import warnings; warnings.simplefilter('error', UserWarning)\n"
        "import jaxes, jaxes.cli, sys\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
        "assert 'brax' not in sys.modules and 'mujoco' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_says_what_is_no_strategy_problem_or_hyperparameter():
    strategy, problem, key = jaxes.snes(8), functions.sphere(2), jax.random.key(0)
    with pytest.raises(ValueError, match="strategy must be a Strategy"):
        jaxes.init(key, jaxes.snes, problem)
    with pytest.raises(ValueError, match="problem must be a Problem"):
        jaxes.make_update_step(strategy, strategy)
    with pytest.raises(ValueError, match="hparams must be a jaxes"):
        jaxes.init(key, strategy, problem, strategy.hparams)
    with pytest.raises(ValueError, match="must be like HParams"):
        jaxes.init(key, strategy, problem, jaxes.TrainHParams(jaxes.cem(20).hparams, ()))
    step, state = jaxes.make_update_step(strategy, problem), jaxes.init(key, strategy, problem)
    with pytest.raises(ValueError, match="num_generations must be a whole number"):
        jaxes.run(step, key, state, -1)


@pytest.mark.parametrize("sigma", [1e300, 1e-60, np.float64(1e39)])
def test_a_number_beyond_the_dtype_is_refused(sigma):
    problem = functions.sphere(3)
    with pytest.raises(ValueError, match=r"hparams.strategy.sigma must be a number that float32"):
        jaxes.train(problem, jaxes.cem(16, sigma=float(sigma)), num_generations=1)
    with pytest.raises(ValueError, match=r"hparams.strategy.sigma must be a number that float32"):
        jaxes.sweep(problem, jaxes.cem(16), {"sigma": [1.0, float(sigma)]}, num_generations=1)
