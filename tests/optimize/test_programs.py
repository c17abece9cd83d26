"""Few programs: a padded population is the true one, and what was compiled is used again."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.optimize.programs import pad, recipe, with_first
from jaxes.search import Search, advance, begin

D = 4


def rastrigin(x):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


@contextlib.contextmanager
def counted_programs():
    """The names of the programs that are compiled in it."""
    names = []

    def listen(event, duration, **of):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(of.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("factory", [jaxes.cma_es, jaxes.sep_cma_es])
@pytest.mark.parametrize(
    ("size", "bad"),
    [(7, "nan"), (20, "none"), (20, "all"), pytest.param(48, "nan", marks=pytest.mark.slow)],
)
def test_a_padded_population_is_the_true_one(factory, size, bad):
    """The same generations as a strategy of that size has, where fitness may be missing too."""
    layout = jaxes.optimize.space.flatten(np.zeros(D, np.float32), 1.0, None).layout
    strategy = factory(size)
    made = recipe(strategy)
    padded_size, constants = pad(made, size, 6, layout)
    assert padded_size == 48

    def fn(x):
        value = -rastrigin(x)
        missing = {"none": False, "nan": x[0] > 0.1, "all": True}[bad]
        return jnp.where(missing, jnp.nan, value)

    @jax.jit
    def generations(constants, size):
        padded = with_first(made.make(padded_size, constants), size)
        searches = Search(strategy, fn), Search(padded, fn, size)
        keys = jax.random.split(jax.random.key(0), 5)
        return [
            jax.lax.scan(
                lambda s, k, search=search: advance(search, k, s), begin(search, jnp.ones(D)), keys
            )
            for search in searches
        ]

    (true, fitness), (padded, padded_fitness) = generations(constants, np.int32(size))
    np.testing.assert_array_equal(padded_fitness[:, size:], -np.inf)
    np.testing.assert_allclose(padded_fitness[:, :size], fitness, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(padded), jax.tree.leaves(true), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_strategies_with_a_size_of_their_own_are_not_padded():
    layout = jaxes.optimize.space.flatten(np.zeros(D), 1.0, None).layout
    own = jaxes.cma_es(8)._replace(spec=None)
    for strategy in (jaxes.snes(20), jaxes.cma_es(20, sampling="sobol"), own):
        assert pad(recipe(strategy), 20, 8, layout) == (20, None)
    assert pad(recipe(jaxes.cma_es(8)), 8, 8, layout) == (8, None)  # the first start is exact


@pytest.mark.parametrize("host", [False, True])
def test_restarts_compile_few_programs_and_repeated_calls_none(host):
    """14 starts of BIPOP were 14 programs."""

    def search(seed, offset):
        def fn(x):
            if host:
                return 10 * D + (x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1) + offset
            return rastrigin(x) + offset

        options = {"std": 2.0, "restarts": "bipop", "max_restarts": 3, "budget": 12_000}
        return jaxes.minimize(fn, np.full(D, 3.0), seed=seed, host=host, **options)

    with counted_programs() as compiled:
        first = search(0, 0.0)
    assert first.starts > 6
    assert len(compiled) <= (5 if host else 3), compiled
    with counted_programs() as compiled:
        again, other = search(0, 0.0), search(1, 0.0)
    assert compiled == []
    assert (again.value, again.evaluations) == (first.value, first.evaluations)
    assert other.value != first.value
    np.testing.assert_allclose(search(0, 1.0).value, first.value + 1, rtol=1e-3)


def test_a_function_is_what_it_computes_not_which_object_it_is():
    """What it captures may have changed since the last call."""
    shift = 1.0
    array = np.ones(3)

    def fn(x):
        return jnp.sum((x - shift) ** 2 + (x - jnp.asarray(array)) ** 2)

    options = {"target": 1e-7, "budget": 3000}
    np.testing.assert_allclose(jaxes.minimize(fn, np.zeros(3), **options).mean, 1, atol=1e-3)
    with counted_programs() as compiled:
        array = np.full(3, 3.0)
        jaxes.minimize(fn, np.zeros(3), **options)
    assert not any("generations" in name for name in compiled)  # an array is an argument
    found = jaxes.minimize(fn, np.zeros(3), **options).mean
    np.testing.assert_allclose(found, 2, atol=1e-3)
    shift = 3.0
    np.testing.assert_allclose(jaxes.minimize(fn, np.zeros(3), **options).mean, 3, atol=1e-3)


def test_a_callback_into_python_is_never_taken_for_another():
    def through(scale):
        def fn(x):
            shape = jax.ShapeDtypeStruct((), x.dtype)
            return jax.pure_callback(
                lambda x: np.sum(scale * np.asarray(x) ** 2, dtype=x.dtype),
                shape,
                x,
                vmap_method="sequential",
            )

        return jaxes.minimize(fn, np.ones(2, np.float32), budget=6).value

    np.testing.assert_allclose(through(3.0), 3 * through(1.0), rtol=1e-6)


@pytest.mark.parametrize("transform", [jax.vmap, lambda fn: jax.jit(jax.vmap(fn))])
def test_a_function_that_captures_a_traced_value_is_refused_in_one_line(transform):
    def value(c):
        return jaxes.minimize(lambda x: jnp.sum((x - c) ** 2), jnp.zeros(3)).value

    with pytest.raises(ValueError, match=r"^\w+ must (be|capture) known") as refused:
        transform(value)(jnp.arange(4.0))
    assert "\n" not in str(refused.value).split("\n----")[0]  # what JAX adds to an outer jit's


def test_a_host_function_that_captures_a_traced_value_is_refused_in_one_line():
    def value(c):
        return jaxes.minimize(lambda x: ((x - c) ** 2).sum(1), np.zeros(3), host=True).value

    with pytest.raises(ValueError, match=r"^a search cannot be a part of a jitted function"):
        jax.jit(value)(1.0)
    with pytest.raises(ValueError, match=r"^fitness_fn must capture known values"):
        jax.vmap(value)(jnp.ones(2))


def test_numbers_of_a_search_are_arguments():
    def fn(x):
        return jnp.sum((x - 0.5) ** 2)

    jaxes.minimize(fn, np.zeros(3), std=1.0, bounds=(-1, 1), budget=100)
    with counted_programs() as compiled:
        jaxes.minimize(fn, np.ones(3), std=0.1, bounds=(-2, 3), budget=200, target=1e-3, seed=4)
    assert compiled == []


def test_hyperparameters_of_a_strategy_are_its_own():
    wide = jaxes.minimize(rastrigin, np.ones(3), jaxes.cma_es(8, sigma=2.0), budget=8)
    replaced = jaxes.cma_es(8)._replace(hparams=jaxes.cma_es(8, sigma=2.0).hparams)
    assert jaxes.minimize(rastrigin, np.ones(3), replaced, budget=8).value == wide.value
    assert jaxes.minimize(rastrigin, np.ones(3), jaxes.cma_es(8), budget=8).value != wide.value


def test_memory_that_is_not_there_is_told_beforehand(monkeypatch):
    monkeypatch.setattr(jaxes.devices, "free_bytes", lambda: 10**6)
    with pytest.raises(ValueError, match=r"at 1,000 parameters .* jaxes.sep_cma_es"):
        jaxes.minimize(lambda x: jnp.sum(x**2), np.ones(1000, np.float32))
    few = jaxes.minimize(lambda x: jnp.sum(x**2), np.ones(1000, np.float32), jaxes.snes, budget=99)
    assert few.value < np.inf


def test_what_is_captured_in_vain_does_not_change_places():
    """Both compute the same of their captured arrays, but for which of them it is."""
    a, b = np.array([1.0, 2, 3]), np.array([-5.0, 0, 1])

    def one_of(index):
        def fn(x):
            both = jnp.sum((x - jnp.asarray(a)) ** 2), jnp.sum((x - jnp.asarray(b)) ** 2)
            return both[index]

        return jaxes.minimize(fn, np.zeros(3), target=1e-6).solution

    np.testing.assert_allclose(one_of(0), a, atol=1e-2)
    np.testing.assert_allclose(one_of(1), b, atol=1e-2)


def test_numbers_that_print_alike_are_not_alike():
    def value(sigma):
        hparams = type(jaxes.cma_es(8).hparams)(sigma)
        strategy = jaxes.cma_es(8)._replace(hparams=hparams)
        return jaxes.minimize(rastrigin, np.ones(3), strategy, budget=8).value

    assert value(np.array(0.123456781)) != value(np.array(0.123456782))


def test_the_generator_of_random_numbers_is_that_of_now():
    def value():
        return jaxes.minimize(rastrigin, np.ones(3, np.float32), budget=16).value

    threefry = value()
    with jax.default_prng_impl("rbg"):
        rbg = value()
    assert rbg != threefry
    assert value() == threefry


def test_a_rule_of_batching_is_a_part_of_a_function():
    def with_optimum(at):
        @jax.custom_batching.custom_vmap
        def fn(x):
            return jnp.sum(x**2)

        @fn.def_vmap
        def _(axis_size, in_batched, x):
            return jnp.sum((x - at) ** 2, axis=1), True

        return jaxes.minimize(fn, np.zeros(2), target=1e-6).solution

    np.testing.assert_allclose(with_optimum(1.0), 1, atol=1e-2)
    np.testing.assert_allclose(with_optimum(5.0), 5, atol=1e-2)
