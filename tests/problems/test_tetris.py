"""Tetris as a problem: games on lanes, alone and in a sweep, on one device and several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes import parallel
from jaxes.core import TEST, TRAIN, Population
from jaxes.problems.tetris import exact_mean

SMALL = {"height": 6, "width": 5, "features": ("heights", "holes"), "num_episodes": 2}


def generations(problem, count=3, num_trials=None, devices=1):
    """States and metrics of a small run, or of so many runs in one program."""
    strategy = jaxes.cem(6, sigma=10.0, noise=4.0, elite_fraction=0.5)
    mesh = jaxes.make_mesh(devices)
    step = jaxes.make_update_step(strategy, problem, mesh)
    keys = jax.random.split(jax.random.key(0), num_trials or 2)
    start = jax.vmap(lambda key: jaxes.init(key, strategy, problem))(keys)

    def run(key, state):
        return jaxes.run(step, key, state, count)

    if num_trials is None:
        first = jax.tree.map(lambda leaf: leaf[0], (keys, start))
        return jax.jit(run)(*parallel.place(first, mesh))
    return jax.jit(jax.vmap(run))(*parallel.place((keys, start), mesh))


def lines_of(run):
    state, metrics = run
    return state.strategy.mean, metrics["return/mean"], metrics["fitness/max"]


@pytest.fixture(scope="module")
def alone():
    """What a run with a lane for each game comes to."""
    lines = lines_of(generations(jaxes.problems.tetris(**SMALL)))
    assert lines[2].max() > 0
    return lines


def test_lines_do_not_depend_on_lanes(alone):
    """Tails and refills of all kinds."""
    few = lines_of(generations(jaxes.problems.tetris(**SMALL, num_lanes=4)))
    jax.tree.map(np.testing.assert_array_equal, few, alone)


def test_a_trial_of_a_sweep_is_the_run_alone(alone):
    together = lines_of(generations(jaxes.problems.tetris(**SMALL), num_trials=3))
    first = jax.tree.map(lambda leaf: leaf[0], together)
    jax.tree.map(np.testing.assert_array_equal, first, alone)


def test_members_play_games_of_their_own_and_tests_are_fresh():
    settings = SMALL | {"num_episodes": 1}
    problem = jaxes.problems.tetris(**settings, max_pieces=5, num_test_episodes=5)
    strategy = jaxes.cem(6, elite_fraction=0.5)
    zeros = strategy.init(jnp.zeros(6), strategy.hparams._replace(sigma=1e-30))
    population = Population(strategy.ask, jax.random.key(0), zeros, 6)
    evaluate = jax.jit(problem.evaluate)
    train = evaluate(jax.random.key(1), population, (), TRAIN)
    assert train.metrics["rollout/episode_length"] <= 5
    assert train.metrics["rollout/truncated"] + train.metrics["rollout/diverged"] <= 6
    test = evaluate(jax.random.key(1), population, (), TEST)
    assert test.tests.returns.shape == (5,)
    assert (test.tests.length <= 5).all()
    assert test.tests.truncated.any()
    broken = Population(
        strategy.ask, jax.random.key(0), zeros._replace(mean=jnp.full(6, jnp.inf)), 6
    )
    assert jnp.isnan(evaluate(jax.random.key(1), broken, (), TRAIN).fitness).all()


def test_means_of_counts_are_exact_to_rounding():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2**31 - 1, (3, 1000))
    exact = counts.astype(object).sum(axis=1) / 1000
    found = exact_mean(jnp.asarray(counts, jnp.int32))
    np.testing.assert_allclose(found, exact.astype(float), rtol=2**-23)
    assert exact_mean(jnp.array([2**24 + 1, 2**24 + 3], jnp.int32)) == 2**24 + 2


@pytest.mark.slow
def test_cem_learns_to_play():
    """By ten generations it beats the zero vector, which removes hardly a line, many times over."""
    problem = jaxes.problems.tetris(height=10, width=6, features=("heights", "holes"))
    result = jaxes.train(problem, jaxes.cem(60, sigma=10.0, noise=4.0), num_generations=10)
    assert result.zero_policy_return < 2
    assert result.return_mean > 10


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"height": 3}, "height must be"),
        ({"width": 31}, "width must be .* at most 30"),
        ({"features": "bertseka"}, "features must be"),
        ({"num_episodes": 0}, "num_episodes must be"),
        ({"max_pieces": 2**31}, "max_pieces must be"),
        ({"num_lanes": 0}, "num_lanes must be"),
        ({"num_test_episodes": 0}, "num_test_episodes must be"),
    ],
)
def test_bad_input_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        jaxes.problems.tetris(**settings)
