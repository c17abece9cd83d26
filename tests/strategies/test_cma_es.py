"""CMA-ES against an independent implementation, number by number."""

import cmaes
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes


@pytest.mark.parametrize("n", [2, 8, 20])
def test_agrees_with_the_oracle_over_60_generations(n, float64):
    """Same solutions, same fitness: mean, σ, C and both paths agree to 1e-10.

    The search starts far away with a small σ, so that h_σ stalls p_c, on a rotated ellipsoid.
    """
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    scales = 10.0 ** (6 * np.arange(n) / (n - 1))
    mean = 30 * rng.normal(size=n)

    population_size = 4 + int(3 * np.log(n))
    strategy = jaxes.cma_es(population_size, sigma=0.05)
    oracle = cmaes.CMA(mean.copy(), 0.05, population_size=population_size)
    state = strategy.init(jnp.asarray(mean))
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    for generation in range(60):
        key = jax.random.key(generation)
        solutions = np.asarray(ask(key, state))
        values = ((solutions @ rotation.T) ** 2 * scales).sum(axis=1)
        state = tell(key, state, jnp.asarray(-values))
        oracle.tell(list(zip(solutions, values, strict=True)))

        for name in ("mean", "sigma", "C", "p_sigma", "pc"):
            ours = getattr(state, "p_c" if name == "pc" else name)
            theirs = getattr(oracle, f"_{name}")
            scale = max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * scale, err_msg=name)


def test_rotation_does_not_matter(float64):
    """The ellipsoid and its rotation take about the same number of generations."""

    def generations_to(problem):
        strategy = jaxes.cma_es(16, sigma=1.0)
        step = jax.jit(jaxes.make_update_step(strategy, problem))
        counts = []
        for seed in range(5):
            key = jax.random.key(seed)
            state = jaxes.init(key, strategy, problem)
            for generation in range(1000):
                state, metrics = step(jax.random.fold_in(key, generation), state)
                if metrics["fitness/max"] > -1e-6:
                    break
            counts.append(generation)
        return np.median(counts)

    separable = generations_to(jaxes.problems.functions.ellipsoid(6))
    rotated = generations_to(jaxes.problems.functions.rotated_ellipsoid(6))
    assert rotated < 400
    assert 0.8 < rotated / separable < 1.25


def test_decomposition_is_lazy_in_high_dimension():
    """With n = 100 and λ = 8 the eigenvectors stand still between two updates; C does not."""
    n, strategy = 100, jaxes.cma_es(8)
    gap = jaxes.strategies.cma_es.constants(8, n).eigen_gap
    assert gap > 1
    tell, state, changed = jax.jit(strategy.tell), strategy.init(jnp.zeros(n)), []
    for generation in range(1, 2 * gap + 1):
        key = jax.random.key(generation)
        told = tell(key, state, -jnp.sum(strategy.ask(key, state) ** 2, axis=1))
        changed.append(not np.array_equal(told.B, state.B))
        assert not np.array_equal(told.C, state.C)
        state = told
    assert changed == [generation % gap == 0 for generation in range(1, 2 * gap + 1)]


@pytest.mark.parametrize("nested", [False, True])
def test_decomposition_is_lazy_under_vmap(nested):
    """Where none of the runs is due, eigh is behind a conditional, not in front of a select."""
    n, strategy = 60, jaxes.cma_es(8)
    assert jaxes.strategies.cma_es.constants(8, n).eigen_gap > 1
    mapped = jax.vmap(strategy.tell, in_axes=(None, 0, 0))
    runs = (2, 3) if nested else (3,)
    if nested:
        mapped = jax.vmap(mapped, in_axes=(None, 0, 0))
    state = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*runs, *leaf.shape)), strategy.init(jnp.zeros(n))
    )
    jaxpr = jax.make_jaxpr(mapped)(jax.random.key(0), state, jnp.zeros((*runs, 8)))
    assert primitives_outside_cond(jaxpr.jaxpr).isdisjoint({"eigh"})
    assert "eigh" in str(jaxpr)


def primitives_outside_cond(jaxpr):
    """The names of the primitives that run unconditionally."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        if equation.primitive.name == "cond" and not equation.invars[0].aval.shape:
            continue
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(value):
                names |= primitives_outside_cond(getattr(value, "jaxpr", value))
    return names


def is_jaxpr(value):
    return hasattr(value, "eqns")


def test_vmapped_runs_equal_single_runs(float64):
    """Also where the runs are not in step: one of them starts a generation later."""
    n, strategy = 50, jaxes.cma_es(8, sigma=1.0)
    assert jaxes.strategies.cma_es.constants(8, n).eigen_gap > 1

    def generation(key, state):
        solutions = strategy.ask(key, state)
        return strategy.tell(key, state, -(solutions**2 @ jnp.arange(1.0, n + 1)))

    single_step, batch_step = jax.jit(generation), jax.jit(jax.vmap(generation, (None, 0)))
    start = strategy.init(jnp.ones(n))
    later = single_step(jax.random.key(9), start)
    singles, batch = [start, later], jax.tree.map(lambda *x: jnp.stack(x), start, later)
    for i in range(12):
        key = jax.random.key(i)
        singles = [single_step(key, state) for state in singles]
        batch = batch_step(key, batch)
    for i, single in enumerate(singles):
        for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(batch), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-6, atol=1e-8)


def test_covariance_stays_symmetric_where_it_grows_for_ever():
    """On a linear function, with a small population in few dimensions, for 4,000 generations."""
    strategy = jaxes.cma_es(12)

    def generation(state, key):
        return strategy.tell(key, state, strategy.ask(key, state)[:, 0]), None

    @jax.jit
    def run(keys):
        return jax.lax.scan(generation, strategy.init(jnp.zeros(2)), keys)[0]

    for seed in range(3):
        state = run(jax.random.split(jax.random.key(seed), 4000))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        np.testing.assert_array_equal(state.C, state.C.T)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_covariance_stays_one_beyond_what_rounding_can_tell(dtype, float64):
    """Two of three coordinates do not matter: the condition number grows without end."""
    strategy = jaxes.cma_es(12)

    @jax.jit
    def run(keys):
        def generation(state, key):
            fitness = -jnp.abs(strategy.ask(key, state)[:, 0])
            return strategy.tell(key, state, fitness), None

        return jax.lax.scan(generation, strategy.init(jnp.zeros(3, dtype)), keys)[0]

    state = run(jax.random.split(jax.random.key(0), 1000))
    eigenvalues = np.linalg.eigvalsh(np.asarray(state.C, np.float64))
    assert eigenvalues[0] >= -10 * jnp.finfo(dtype).eps * eigenvalues[-1]
    rebuilt = state.B @ jnp.diag(state.D**2) @ state.B.T
    np.testing.assert_allclose(state.C, rebuilt, atol=1e-4 * eigenvalues[-1])
