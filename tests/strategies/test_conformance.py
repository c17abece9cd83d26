"""What holds for every strategy, over the registry."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes

N, D = 24, 5
SETTINGS = {  # what each needs to find the optimum of a function scaled like 1
    "ars": {"sigma": 0.1, "learning_rate": 0.02, "elite_fraction": 0.5},
    "genetic": {"sigma": 0.1, "num_parents": 1},
    "lm_ma_es": {"sigma": 1.0},
    "pgpe": {"sigma": 0.5, "learning_rate": 0.02},
    "plain_cma": {"sigma": 1.0, "elite_fraction": 0.5, "epsilon": 0.001},
    "sep_cma_es": {"sigma": 1.0},
    "cem": {"sigma": 1.0, "elite_fraction": 0.25, "noise": 0.1, "noise_decay": 0.002},
    "cma_es": {"sigma": 1.0},
    "nes": {"sigma": 0.3, "learning_rate": 0.001},
    "snes": {"sigma": 1.0},
    "xnes": {"sigma": 1.0},
    "openai_es": {"sigma": 0.1, "learning_rate": 0.1, "weight_decay": 0.0},
}


@pytest.fixture(params=sorted(jaxes.STRATEGIES))
def strategy_name(request):
    return request.param


@functools.cache
def build(strategy_name):
    strategy = jaxes.STRATEGIES[strategy_name](N, **SETTINGS[strategy_name])
    return strategy._replace(ask=jax.jit(strategy.ask), tell=jax.jit(strategy.tell))


@pytest.fixture
def strategy(strategy_name):
    return build(strategy_name)


@functools.cache
def settled(strategy):
    return after(3, strategy, jnp.linspace(-1.0, 1.0, D))


@pytest.fixture
def state(strategy):
    """A state some generations away from its initial one."""
    return settled(strategy)


def after(num_generations, strategy, mean, seed=0, of="target"):
    """The state after that many generations from `mean`, in one compiled program of all fitness."""
    run, which = compiled(strategy), list(FITNESS).index(of)
    return run(strategy.init(mean), jax.random.key(seed), num_generations, which)


@functools.cache
def compiled(strategy):
    @jax.jit
    def run(state, key, num_generations, which):
        def generation(i, state):
            ask_key = jax.random.fold_in(key, i)
            solutions = strategy.ask(ask_key, state)
            fitness = jax.lax.switch(which, list(FITNESS.values()), solutions)
            return strategy.tell(ask_key, state, fitness)

        return jax.lax.fori_loop(0, num_generations, generation, state)

    return run


def target(solutions):
    """Asymmetric, so that a sign error shows: the optimum is at (1, 2, ..., D) / D."""
    scale = jnp.arange(1.0, D + 1) ** 2
    deviation = solutions - jnp.arange(1.0, D + 1)[None] / D
    return -jnp.sum(scale[None] * deviation**2, axis=1)


FITNESS = {
    "target": target,
    "linear": lambda x: x @ jnp.arange(1.0, D + 1),
    # For ever, but slowly, so that it never overflows itself.
    "growing": lambda x: jnp.sign(x[:, 0]) * jnp.log1p(jnp.abs(x[:, 0])),
}


@contextlib.contextmanager
def compilations():
    """The programs that are compiled meanwhile."""
    events, listening = [], True

    def listen(event, *_, **__):
        if listening and event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    listening = False


def assert_trees_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


def test_registry_is_covered():
    assert set(SETTINGS) == set(jaxes.STRATEGIES)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_tell_is_a_fixed_point_of_shapes_and_dtypes(strategy, dtype, float64):
    def generation(key, mean):
        state = strategy.init(mean)
        solutions = strategy.ask(key, state)
        return state, solutions, strategy.tell(key, state, target(solutions))

    mean = jax.ShapeDtypeStruct((D,), dtype)
    state, solutions, told = jax.eval_shape(generation, jax.random.key(0), mean)
    assert solutions.shape == (N, D)
    assert solutions.dtype == dtype
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(told), strict=True):
        assert (before.shape, before.dtype, before.weak_type) == (
            after.shape,
            after.dtype,
            after.weak_type,
        )
        assert not before.weak_type
        assert before.dtype in (dtype, jnp.int32)


def test_by_hand_nothing_compiles_after_the_first_generation(strategy_name):
    strategy = jaxes.STRATEGIES[strategy_name](N, **SETTINGS[strategy_name])
    state, compiled = strategy.init(jnp.zeros(D)), []
    for i in range(3):
        key = jax.random.key(i)  # NumPy between, as a simulator has it
        with compilations() as events:
            fitness = np.asarray(target(jnp.asarray(np.asarray(strategy.ask(key, state)))))
            state = strategy.tell(key, state, fitness)
        compiled.append(len(events))
    assert compiled[1:] == [0, 0]


def test_a_weak_typed_mean_and_shared_buffers_are_no_trouble(strategy):
    state = strategy.init(jnp.full(D, 0.5))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    jax.jit(lambda state: state, donate_argnums=0)(state)


def test_any_subset_of_the_population_is_the_same_members(strategy, state):
    key = jax.random.key(7)
    everyone = strategy.ask(key, state)
    members = jnp.array([N - 1, 0, 5, 5])
    np.testing.assert_allclose(strategy.ask(key, state, members), everyone[members], rtol=1e-5)


def test_solutions_have_the_mean_of_the_state(strategy, state):
    keys = jax.random.split(jax.random.key(1), 500)
    solutions = jax.vmap(lambda key: strategy.ask(key, state))(keys).reshape(-1, D)
    error = (solutions.mean(axis=0) - state.mean) / (
        solutions.std(axis=0) / np.sqrt(len(solutions))
    )
    assert np.abs(error).max() < 5


@pytest.mark.slow
def test_any_sampling_scheme_will_do(strategy_name):
    """`tell` rebuilds the noise of `ask`: with noise of another scheme it would not climb."""
    sampling = ["orthogonal", "sobol"][sorted(SETTINGS).index(strategy_name) % 2]
    settings = SETTINGS[strategy_name] | {"sampling": sampling}
    state = after(60, jaxes.STRATEGIES[strategy_name](N, **settings), jnp.full(D, -1.0))
    assert target(state.mean[None]) > 0.2 * target(jnp.full((1, D), -1.0))


def test_the_size_of_a_chunk_does_not_matter(strategy_name, strategy):
    if strategy_name == "genetic":
        pytest.skip("rebuilds its survivors alone")
    chunked = jaxes.STRATEGIES[strategy_name](N, **SETTINGS[strategy_name], chunk_size=5)
    left, right = (after(5, each, jnp.full(D, -1.0)) for each in (strategy, chunked))
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_same_key_draws_the_same_bits(strategy, state):
    key = jax.random.key(3)
    first, second = strategy.ask(key, state), strategy.ask(key, state)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, strategy.ask(jax.random.key(4), state))


def test_vmap_over_hyperparameters_equals_the_loop(strategy):
    batch = [jax.tree.map(lambda x, s=s: x * s, strategy.hparams) for s in (0.5, 1.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *batch)

    @jax.jit
    def short_run(hparams):
        def generation(i, state):
            key = jax.random.key(i)
            return strategy.tell(key, state, target(strategy.ask(key, state)))

        return jax.lax.fori_loop(0, 4, generation, strategy.init(jnp.zeros(D), hparams))

    mapped = jax.vmap(short_run)(stacked)
    for i, hparams in enumerate(batch):
        looped = short_run(jax.tree.map(jnp.asarray, hparams))
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(looped), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-5)
    assert not np.allclose(mapped.mean[0], mapped.mean[1])  # the numbers do matter


@pytest.mark.parametrize("fitness", [jnp.full(N, -1e6), jnp.full(N, jnp.nan)], ids=["equal", "nan"])
def test_a_generation_without_information_changes_nothing(strategy, state, fitness):
    assert_trees_equal(strategy.tell(jax.random.key(0), state, fitness), state)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf, 1e38, -1e38])
def test_bad_fitness_leaves_the_state_finite(strategy, state, bad):
    key = jax.random.key(0)
    fitness = target(strategy.ask(key, state)).at[:3].set(bad)
    told = strategy.tell(key, state, fitness)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(told))
    assert not np.array_equal(told.mean, state.mean)


def test_nan_counts_as_the_worst(strategy_name, strategy, state):
    key = jax.random.key(0)
    fitness = target(strategy.ask(key, state))
    worst = jnp.argmin(fitness)
    # Where ranks do not count, NaN is as bad as the worst finite fitness, and no worse.
    gap = 0.0 if strategy_name in ("nes", "ars") else 1.0
    assert_trees_equal(
        strategy.tell(key, state, fitness.at[worst].set(jnp.nan)),
        strategy.tell(key, state, fitness.at[worst].set(jnp.sort(fitness)[1] - gap)),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_an_asymmetric_optimum(strategy, seed):
    state = after(3000, strategy, jnp.full(D, -1.0), seed)
    distance = np.abs(state.mean - jnp.arange(1.0, D + 1) / D)
    assert distance.max() < 0.12


def test_stays_finite_long_after_convergence(strategy):
    state = after(5000, strategy, jnp.zeros(D))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert np.isfinite(strategy.ask(jax.random.key(0), state)).all()


def test_a_fitness_that_grows_for_ever_keeps_the_state_finite(strategy):
    """The distribution has to stop growing."""
    state = after(4000, strategy, jnp.zeros(D), of="growing")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert np.isfinite(strategy.ask(jax.random.key(0), state)).all()


@pytest.mark.parametrize("weights", ["raw", "z_score", "elite"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_huge_fitness_leaves_any_optimizer_usable(weights, optimizer):
    strategy = jaxes.openai_es(N, weights=weights, optimizer=optimizer)
    state = strategy.init(jnp.zeros(D))
    for huge in (1e38, -1e38, 1e30):
        fitness = jnp.arange(N, dtype=jnp.float32).at[3].set(huge)
        state = strategy.tell(jax.random.key(0), state, fitness)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_linear_function_keeps_the_state_finite(strategy):
    state = after(1000, strategy, jnp.zeros(D), of="linear")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_wrong_shapes_are_refused(strategy, state):
    with pytest.raises(ValueError, match=rf"fitness must have the shape \[{N}\]"):
        strategy.tell(jax.random.key(0), state, jnp.zeros(N - 1))
    with pytest.raises(ValueError, match="mean must be a float vector"):
        strategy.init(jnp.zeros((2, 3)))
    for dtype in (jnp.int32, jnp.bfloat16):
        with pytest.raises(ValueError, match="mean must be a float vector"):
            strategy.init(jnp.zeros(3, dtype))
    with pytest.raises(ValueError, match="fitness must be real"):
        strategy.tell(jax.random.key(0), state, jnp.zeros(N, jnp.complex64))


@pytest.mark.parametrize(
    ("name", "population_size", "settings", "message"),
    [
        ("cem", 10, {}, "at least 11 with elite_fraction=0.1, got 10"),
        ("cem", 32, {"elite_fraction": 0.0}, r"elite_fraction must be in \(0, 1\], got 0.0"),
        ("cem", 32, {"noise": -1.0}, "noise must be at least 0"),
        ("cma_es", 3, {}, "population_size must be a whole number of at least 4, got 3"),
        ("cma_es", 8.0, {}, "population_size must be a whole number"),
        ("cma_es", 8, {"sigma": -1.0}, "sigma must be positive, got -1.0"),
        (
            "cma_es",
            8,
            {"sigma": float("nan")},
            r"sigma must be positive \(a finite number\), got nan",
        ),
        ("openai_es", 7, {}, "population_size must be even for pairs, got 7"),
        ("openai_es", 8, {"optimizer": "sdg"}, "optimizer must be one of sgd"),
        (
            "openai_es",
            8,
            {"weights": "rank"},
            "weights must be one of elite, log_rank, .* did you mean 'log_rank'",
        ),
        ("openai_es", 8, {"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ("nes", 8, {"learning_rate": 0.0}, "learning_rate must be positive"),
        ("cem", 32, {"weights": "utilities"}, "weights must sum to 1: moments are averages"),
        ("plain_cma", 32, {"weights": "raw"}, "the sum of raw is undeclared"),
        ("plain_cma", 7, {}, "at least 8 with elite_fraction=0.25, got 7"),
        ("plain_cma", 32, {"epsilon": 0.0}, "epsilon must be positive, got 0.0"),
        ("snes", 8, {"weights": "elite"}, "weights must sum to 0: .*; the sum of elite is 1"),
        ("ars", 8, {"sampling": "sobl"}, "got 'sobl'; did you mean 'sobol'.$"),
        ("snes", 8, {"sampling": "sobl"}, "sampling must be one of .* did you mean 'sobol'"),
        ("xnes", 2**17, {"sampling": "sobol"}, "population_size must be .* at most 65536"),
        ("xnes", 8, {"chunk_size": 0}, "chunk_size must be a whole number of at least 1, got 0"),
        ("ars", 7, {}, "population_size must be even for pairs, got 7"),
        ("pgpe", 7, {}, "population_size must be even for pairs, got 7"),
        ("pgpe", 8, {"std_max_change": 1.0}, r"std_max_change must be in \[0, 1\), got 1.0"),
        ("pgpe", 8, {"weights": lambda fitness: fitness}, "weights must sum to 0"),
        ("genetic", 0, {}, "population_size must be a whole number of at least 1, got 0"),
        ("genetic", 8, {"num_parents": 0}, "num_parents must be a whole number of at least 1"),
        ("genetic", 8, {"sigma_decay": 1.5}, r"sigma_decay must be in \(0, 1\], got 1.5"),
        ("lm_ma_es", 3, {}, "population_size must be a whole number of at least 4, got 3"),
        ("sep_cma_es", 8, {"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ("snes", 8, {"sigma": "1"}, r"sigma must be positive \(a finite number\), got '1'"),
        (
            "xnes",
            8,
            {"sigma": float("inf")},
            r"sigma must be positive \(a finite number\), got inf",
        ),
        (
            "cem",
            32,
            {"elite_fraction": None},
            r"elite_fraction must be in \(0, 1\] \(a finite .*, got None",
        ),
        ("ars", 10, {"sampling": "antithetic"}, "sampling must be of single directions"),
        ("ars", 2**18, {"sampling": "sobol"}, "got 131072 directions, half of the population"),
        ("cma_es", 8, {"weights": "elite"}, "weights cannot be chosen for cma_es: its learning"),
        ("genetic", 8, {"weights": "raw"}, "weights cannot be chosen for genetic: it selects by"),
        ("openai_es", 7, {"sampling": jaxes.gaussian.antithetic}, "must be even for pairs, got 7"),
        (
            "cem",
            32,
            {"weights": functools.partial(jaxes.weights.elite, fraction=0.5)},
            "undeclared",
        ),
    ],
)
def test_bad_settings_are_refused(name, population_size, settings, message):
    with pytest.raises(ValueError, match=message):
        jaxes.STRATEGIES[name](population_size, **settings)


def test_hyperparameters_of_another_strategy_are_refused(strategy):
    with pytest.raises(ValueError, match="hparams must be like HParams"):
        strategy.init(jnp.zeros(D), jaxes.problems.brax("fast").hparams)


@pytest.mark.parametrize("value", [jnp.ones(D), [0.1, 0.2], None, "a", 1j])
def test_each_hyperparameter_is_one_number(strategy, value):
    for field in strategy.hparams._fields:
        with pytest.raises(ValueError, match=rf"hparams\.{field} must be one number"):
            strategy.init(jnp.zeros(D), strategy.hparams._replace(**{field: value}))


def test_functions_of_the_wrong_shape_are_named():
    key, mean = jax.random.key(0), jnp.zeros(3)
    halved = jaxes.weights.sums_to(0)(lambda fitness: fitness[::2])
    strategy = jaxes.snes(8, weights=halved)
    with pytest.raises(ValueError, match="weights must be one for each fitness"):
        strategy.tell(key, strategy.init(mean), jnp.arange(8.0))
    strategy = jaxes.snes(8, sampling=lambda key, members, dim, dtype: jnp.zeros(dim))
    with pytest.raises(ValueError, match="sampling must be a scheme that draws"):
        strategy.ask(key, strategy.init(mean))
