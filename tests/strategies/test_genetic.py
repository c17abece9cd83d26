"""Truncation selection against its definition, generation by generation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxes


def cost(solutions):
    return ((solutions - 1) ** 2 * np.arange(1.0, solutions.shape[1] + 1)).sum(axis=1)


def test_keeps_the_best_of_parents_and_children(float64):
    num_parents, strategy = 3, jaxes.genetic(10, num_parents=3, sigma=0.3, sigma_decay=0.9)
    state = strategy.init(jnp.zeros(4))
    tell, pool, pool_cost = jax.jit(strategy.tell), np.zeros((0, 4)), np.zeros(0)
    for generation in range(15):
        key = jax.random.key(generation)
        children = np.asarray(strategy.ask(key, state))
        parents = np.asarray(state.parents)
        nearest = np.linalg.norm(children[:, None] - parents[None], axis=2).min(axis=1)
        assert nearest.max() < 0.3 * 0.9**generation * 5  # each is a mutation of a parent
        state = tell(key, state, jnp.asarray(-cost(children)))
        pool, pool_cost = np.vstack([pool, children]), np.append(pool_cost, cost(children))
        best = np.argsort(pool_cost)[:num_parents]
        pool, pool_cost = pool[best], pool_cost[best]
        np.testing.assert_allclose(state.parents, pool, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state.parent_fitness, -pool_cost)
        np.testing.assert_allclose(state.mean, pool[0], rtol=1e-12)
    np.testing.assert_allclose(state.sigma, 0.3 * 0.9**15)


def test_every_parent_has_children():
    strategy = jaxes.genetic(100, num_parents=4, sigma=1e-3)
    state = strategy.init(jnp.zeros(2))._replace(
        parents=jnp.arange(8.0).reshape(4, 2), parent_fitness=jnp.zeros(4)
    )
    children = strategy.ask(jax.random.key(0), state)
    counts = np.bincount(np.round(children[:, 0] / 2).astype(int), minlength=4)
    assert counts.sum() == 100
    assert counts.min() > 10


def test_one_parent_and_one_child_is_the_general_algorithm():
    """Keep the perturbed vector if the result improves; the initial vector is judged first."""
    strategy = jaxes.genetic(1, sigma=0.5)
    state = strategy.init(jnp.zeros(3))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    kept, kept_cost = np.zeros((1, 3)), np.inf
    moves = 0
    for generation in range(60):
        key = jax.random.key(generation)
        child = np.asarray(ask(key, state))
        if generation == 0:
            np.testing.assert_array_equal(child, kept)
        if cost(child)[0] < kept_cost:
            moves += generation > 0
            kept, kept_cost = child, cost(child)[0]
        state = tell(key, state, jnp.asarray(-cost(child)))
        np.testing.assert_allclose(state.mean, kept[0], rtol=1e-6)
    assert 5 < moves < 40


def test_children_that_are_equal_and_better_replace_their_parents():
    strategy = jaxes.genetic(6, num_parents=2, sigma=0.5)
    state = strategy.tell(jax.random.key(0), strategy.init(jnp.ones(3)), jnp.arange(6.0))
    better = strategy.tell(jax.random.key(1), state, jnp.full(6, 9.0))
    assert (better.parent_fitness == 9).all()
    assert not np.array_equal(better.mean, state.mean)
    worse = strategy.tell(jax.random.key(1), state, jnp.full(6, -9.0))
    np.testing.assert_array_equal(worse.parents, state.parents)


def test_an_all_nan_generation_does_not_even_decay_sigma():
    strategy = jaxes.genetic(4, sigma=0.5, sigma_decay=0.5)
    state = strategy.tell(jax.random.key(0), strategy.init(jnp.ones(3)), jnp.full(4, jnp.nan))
    assert state.sigma == 0.5
    np.testing.assert_array_equal(state.mean, 1)


def test_nan_never_replaces_a_parent():
    strategy = jaxes.genetic(1, sigma=0.5)
    state = strategy.tell(jax.random.key(0), strategy.init(jnp.ones(3)), jnp.array([2.0]))
    told = strategy.tell(jax.random.key(1), state, jnp.array([jnp.nan]))
    np.testing.assert_array_equal(told.mean, state.mean)
    assert told.parent_fitness == 2
