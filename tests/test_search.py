"""The pure advance: one generation that can be jitted, scanned, vmapped, and stand in a program."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every import slow_but

import jaxes
from jaxes.search import Search, advance, begin

D = 3
NUM_GENERATIONS = 12


def fitness_fn(x):
    return -jnp.sum((x - jnp.arange(1.0, D + 1)) ** 2)


def scanned(search, key, mean, hparams=None):
    """The state after some generations, and the fitness of all members `[G, N]`."""

    def generation(state, i):
        return advance(search, jax.random.fold_in(key, i), state)

    return jax.lax.scan(generation, begin(search, mean, hparams), jnp.arange(NUM_GENERATIONS))


SNES = Search(jaxes.snes(12), fitness_fn)
each_search = pytest.mark.parametrize(
    "search", [SNES, Search(jaxes.cma_es(12), fitness_fn)], ids=["snes", "cma_es"]
)


@each_search
def test_a_scan_in_a_program_is_the_loop(search):
    key, mean = jax.random.key(0), jnp.zeros(D)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(n=1)(lambda key, state: advance(search, key, state)))
    state, all_fitness = begin(search, mean), []
    for i in range(NUM_GENERATIONS):
        state, fitness = step(jax.random.fold_in(key, i), state)
        all_fitness.append(fitness)
    in_one, fitness = jax.jit(lambda: scanned(search, key, mean))()
    chex.assert_trees_all_close(in_one, state, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitness, jnp.stack(all_fitness), rtol=1e-4, atol=1e-5)
    assert int(in_one.generation) == NUM_GENERATIONS
    assert fitness.shape == (NUM_GENERATIONS, 12)


def test_the_best_is_the_best_that_was_evaluated():
    state, fitness = jax.jit(lambda: scanned(SNES, jax.random.key(1), jnp.zeros(D)))()
    assert state.best_fitness == fitness.max() > fitness_fn(jnp.zeros(D))
    np.testing.assert_allclose(fitness_fn(state.best), state.best_fitness, rtol=1e-4)


@each_search
def test_searches_are_vmapped_over_keys_means_and_hyperparameters(search):
    """As in the lanes of an engine: each from its own mean, with its own numbers."""
    keys = jax.random.split(jax.random.key(0), 4)
    means = jnp.linspace(-1.0, 1.0, 4 * D).reshape(4, D)
    sigmas = jnp.linspace(0.2, 0.8, 4)

    @jax.jit
    def one(key, mean, sigma):
        hparams = search.strategy.hparams._replace(sigma=sigma)
        return scanned(search, key, mean, hparams)[0]

    mapped = jax.jit(jax.vmap(one))(keys, means, sigmas)
    for i in range(4):
        alone = one(keys[i], means[i], sigmas[i])
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        chex.assert_trees_all_close(mine, alone, rtol=1e-3, atol=1e-4)
    assert len(set(np.asarray(mapped.best_fitness).tolist())) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maximize_is_a_loop_over_it(dtype):
    budget, mean = NUM_GENERATIONS * 12, np.zeros(D, dtype)
    result = jaxes.maximize(fitness_fn, mean, SNES.strategy, budget=budget, seed=5)
    _, search_key = jax.random.split(jax.random.key(5))
    with jax.enable_x64(dtype is np.float64):
        run = jax.jit(lambda: scanned(SNES, jax.random.fold_in(search_key, 0), mean))
        state, _ = run()
    assert (result.evaluations, result.reason) == (budget, "budget")
    assert result.value == pytest.approx(float(state.best_fitness), rel=1e-5)
    np.testing.assert_allclose(result.solution, state.best, rtol=1e-4)
    np.testing.assert_allclose(result.mean, state.strategy.mean, rtol=1e-4)
    assert state.best.dtype == state.best_fitness.dtype == dtype


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_what_has_no_value_is_never_the_best(bad):
    nowhere = SNES._replace(fitness_fn=lambda x: bad + 0 * x[0])
    state, _ = scanned(nowhere, jax.random.key(0), jnp.ones(D))
    np.testing.assert_array_equal(state.best, 1)
    assert state.best_fitness == -jnp.inf

    half = SNES._replace(fitness_fn=lambda x: jnp.where(x[0] > 0, bad, fitness_fn(x)))
    state, fitness = scanned(half, jax.random.key(0), jnp.zeros(D))
    assert np.isfinite(state.best_fitness)
    assert state.best[0] <= 0
    assert state.best_fitness == np.nanmax(fitness)
    assert not np.isfinite(fitness).all()


def test_many_members_are_evaluated_in_chunks():
    search, key, mean = Search(jaxes.snes(150), fitness_fn), jax.random.key(0), jnp.zeros(D)
    _, fitness = jax.jit(lambda: advance(search, key, begin(search, mean)))()
    solutions = search.strategy.ask(key, search.strategy.init(mean))
    np.testing.assert_allclose(fitness, jax.vmap(fitness_fn)(solutions), rtol=1e-5)


def test_bad_functions_and_means_are_refused():
    bad = SNES._replace(fitness_fn=lambda x: x)
    with pytest.raises(ValueError, match="fitness_fn must be a function to one real number"):
        advance(bad, jax.random.key(0), begin(bad, jnp.zeros(D)))
    with pytest.raises(ValueError, match="mean must be a float vector"):
        begin(SNES, jnp.zeros((2, D)))
    with pytest.raises(ValueError, match="hparams must be like HParams"):
        begin(SNES, jnp.zeros(D), jaxes.ars(4).hparams)


@pytest.mark.parametrize("name", slow_but(jaxes.STRATEGIES, "cem", "cma_es", "openai_es"))
def test_noise_that_is_held_is_the_same_noise(name):
    strategy = jaxes.STRATEGIES[name](12)
    found = []
    for hold in (False, True):
        search = Search(strategy, fitness_fn, hold=hold)
        step = jax.jit(lambda key, state, search=search: advance(search, key, state))
        found.append(step(jax.random.key(2), begin(search, jnp.zeros(D))))
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)
    assert (strategy.hold is None) == (name == "genetic")
