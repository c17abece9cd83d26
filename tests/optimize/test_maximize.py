"""maximize and minimize: optima that are known, ends that are announced, and what is refused."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from every import slow_but

import jaxes
from jaxes.optimize.restarts import plan_after


def sphere(x):
    return jnp.sum((x - 3) ** 2)


def rastrigin(x):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


def test_finds_the_minimum_of_a_plain_function():
    result = jaxes.minimize(sphere, jnp.zeros(5), target=1e-8)
    assert result.reason == "target"
    assert result.value <= 1e-8
    np.testing.assert_allclose(result.solution, 3, atol=1e-3)
    np.testing.assert_allclose(sphere(result.solution), result.value, rtol=1e-4)
    assert 200 < result.evaluations < 2000


def test_maximize_is_minimize_upside_down():
    low = jaxes.minimize(sphere, jnp.zeros(5), target=1e-6, seed=3)
    high = jaxes.maximize(lambda x: 5 - sphere(x), jnp.zeros(5), target=5 - 1e-6, seed=3)
    assert high.reason == "target"
    assert high.value > 5 - 1e-5
    assert abs(high.evaluations - low.evaluations) < 200


def test_the_same_seed_is_the_same_search():
    first, again, other = (
        jaxes.minimize(sphere, jnp.zeros(5), target=1e-6, seed=seed) for seed in (0, 0, 1)
    )
    assert (first.value, first.evaluations) == (again.value, again.evaluations)
    np.testing.assert_array_equal(first.solution, again.solution)
    assert first.value != other.value


def test_a_host_function_gets_arrays_and_gives_the_same_search():
    shapes = set()

    def on_host(solutions):
        assert isinstance(solutions, np.ndarray)
        shapes.add((solutions.shape, solutions.dtype))
        return ((solutions - 3) ** 2).sum(axis=1)

    host = jaxes.minimize(on_host, np.zeros(3), host=True)
    traced = jaxes.minimize(sphere, np.zeros(3))
    assert shapes == {((8, 3), np.dtype(np.float64))}
    assert host.evaluations == traced.evaluations
    np.testing.assert_allclose(host.solution, traced.solution, atol=1e-6)


def test_dtype_follows_the_mean():
    single = jaxes.minimize(sphere, np.zeros(5, np.float32))
    double = jaxes.minimize(sphere, list(np.zeros(3)))
    assert single.solution.dtype == np.float32
    assert double.solution.dtype == np.float64
    assert 0 < double.value < 1e-9
    with jax.enable_x64(True):
        assert jaxes.minimize(sphere, [0.0, 0.0]).solution.dtype == np.float64


def test_mean_std_and_bounds_may_be_pytrees():
    def fn(params):
        a = params["a"] * jnp.array([[1.0, 1e4]])  # badly scaled, as std says
        return jnp.sum((a - 3) ** 2) + (params["b"] + 1) ** 2

    result = jaxes.minimize(
        fn,
        {"a": np.zeros((1, 2)), "b": 0.5},
        std={"a": np.array([[1.0, 1e-4]]), "b": 2.0},
        bounds=({"a": np.full((1, 2), -9.0), "b": 0.0}, np.inf),
        target=1 + 1e-9,
    )
    assert result.reason == "target"
    assert result.solution["a"].shape == (1, 2)
    np.testing.assert_allclose(result.solution["a"], [[3, 3e-4]], rtol=1e-3)
    assert 0 <= result.solution["b"] < 1e-9


@pytest.mark.parametrize("name", ["cma_es", "snes"])
def test_an_optimum_in_a_corner_is_reached(name):
    """min Σ (x - 10)² in [0, 1]^4 lies at (1, 1, 1, 1), which a sigmoid would never reach."""
    seen = []

    def fn(solutions):
        seen.append((solutions.min(), solutions.max()))
        return ((solutions - 10) ** 2).sum(axis=1)

    factory = jaxes.STRATEGIES[name]
    result = jaxes.minimize(
        fn, np.full(4, 0.5), factory(12, sigma=0.3), bounds=(0.0, 1.0), host=True, budget=12_000
    )
    np.testing.assert_allclose(result.solution, 1, atol=1e-9)
    np.testing.assert_allclose(result.value, 4 * 81, rtol=1e-9)
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 1


@pytest.mark.parametrize("restarts", ["ipop", "bipop"])
def test_restarts_leave_local_optima(restarts):
    """Rastrigin: one start with few members finds another optimum; restarts do not stay there."""

    def start(key):
        return jax.random.uniform(key, (4,), minval=-4.0, maxval=4.0)

    options = {"std": 2.0, "target": 1e-3, "budget": 300_000}
    result = jaxes.minimize(rastrigin, start, restarts=restarts, **options)
    assert result.reason == "target"
    assert result.starts > 1
    np.testing.assert_allclose(result.solution, 0, atol=1e-2)


def test_the_mean_is_that_of_the_last_start():
    """Small starts of BIPOP have coordinates of their own scale."""
    options = {"budget": 5000, "restarts": "bipop", "max_restarts": 1}
    result = jaxes.minimize(lambda x: jnp.sum((x - 1) ** 2), np.zeros(2), **options)
    assert result.starts > 2
    np.testing.assert_allclose(result.mean, 1, atol=1e-3)


def plans(restarts, used, max_restarts=3):
    """All starts, of which each uses `used(plan)` evaluations."""
    done, spent = [], ()
    while (plan := plan_after(spent, restarts, 10, max_restarts, 0)) is not None:
        done.append(plan)
        spent = (*spent, used(plan))
    return done


def test_ipop_doubles_the_population():
    sizes = [plan.population_size for plan in plans("ipop", lambda plan: 1000)]
    assert sizes == [10, 20, 40, 80]
    assert [plan.population_size for plan in plans("none", lambda plan: 1000)] == [10]


def test_bipop_spends_as_much_on_small_populations_as_on_large_ones():
    done = plans("bipop", lambda plan: min(100 * plan.population_size, plan.budget))
    large = [plan for plan in done[1:] if plan.std_factor == 1]
    small = [plan for plan in done[1:] if plan.std_factor != 1]
    assert [plan.population_size for plan in large] == [20, 40, 80]
    assert all(10 <= plan.population_size <= 42 for plan in small)
    assert all(0.01 <= plan.std_factor < 1 for plan in small)
    assert len(small) >= len(large)


def test_small_starts_of_bipop_take_smaller_steps():
    """On a flat function a start stays where it began: its spread is that of its plan."""
    spreads = {}

    def fn(solutions):
        spreads.setdefault(round(float(solutions.std(axis=0).mean()), 2), len(solutions))
        return np.zeros(len(solutions))

    result = jaxes.minimize(
        fn, np.zeros(8), std=5.0, host=True, restarts="bipop", max_restarts=1, budget=3000
    )
    factors = [plan.std_factor for plan in plans("bipop", lambda plan: 1, max_restarts=1)]
    assert result.starts >= 3
    assert min(spreads) < 5 * max(factor for factor in factors if factor < 1) * 1.5
    assert max(spreads) > 4


def test_each_start_draws_its_own_mean():
    seen = []

    def start(key):
        seen.append(float(jax.random.uniform(key)))
        return jnp.full(2, seen[-1])

    result = jaxes.minimize(lambda x: 0 * x[0], start, restarts="ipop", max_restarts=2)
    assert result.starts == 3
    assert len(set(seen)) >= 3


@pytest.mark.parametrize(
    ("fn", "options", "reason"),
    [
        (sphere, {"budget": 100}, "budget"),
        (lambda x: 0 * x[0], {}, "tolfunhist"),
        (lambda x: x[0], {}, "tolfacupx"),
        (sphere, {"termination": jaxes.Termination(0, 0)}, "tolx"),
        (sphere, {"restarts": "ipop", "budget": 3000}, "budget"),
        (sphere, {"restarts": "ipop", "max_restarts": 1}, "tolfun"),
    ],
    ids=["budget", "flat", "linear", "tolx", "ipop-budget", "ipop"],
)
def test_says_why_it_stopped(fn, options, reason):
    result = jaxes.minimize(fn, np.ones(3), **options)
    assert result.reason == reason
    assert result.evaluations <= options.get("budget", 30_000)


@pytest.mark.parametrize("dim", [3, 5000])
def test_many_dimensions_and_odd_shapes_do_not_end_a_search_early(dim):
    """More numbers than XLA reduces in one block, and lists instead of arrays."""
    mean = [1.0] * dim if dim == 3 else np.ones(dim, np.float32)
    result = jaxes.minimize(
        lambda x: jnp.sum(x**2), mean, jaxes.sep_cma_es, std=[0.5] * dim, budget=60_000 // dim * 40
    )
    assert result.evaluations > 400
    assert result.value < 1.05 * dim


@pytest.mark.parametrize(
    "name", slow_but(set(jaxes.STRATEGIES) - {"cem", "plain_cma"}, "genetic", "openai_es", "snes")
)
def test_every_strategy_will_do(name):
    result = jaxes.minimize(lambda x: jnp.sum((x - 1) ** 2), np.zeros(2), jaxes.STRATEGIES[name])
    assert result.value < 2
    assert result.evaluations > 20


def test_an_infinite_value_is_no_target():
    result = jaxes.maximize(lambda x: jnp.where(x[0] > 1, jnp.inf, x[0]), np.zeros(2))
    assert result.reason == "tolfunhist"


def test_an_unsigned_value_can_be_minimized():
    def fn(solutions):
        return np.clip(np.abs(solutions[:, 0] - 3) * 10, 0, 250).astype(np.uint8)

    assert 0 <= jaxes.minimize(fn, np.zeros(1), host=True, budget=500).value < 5


def test_an_ill_conditioned_search_ends():
    result = jaxes.minimize(
        lambda x: x[0] ** 2 + 1e16 * x[1] ** 2, np.ones(2), termination=jaxes.Termination(0, 0, 0)
    )
    assert result.reason == "condition"


@pytest.mark.parametrize("strategy", [jaxes.xnes, jaxes.cma_es, jaxes.lm_ma_es])
def test_a_host_search_returns_a_point_that_was_evaluated(strategy):
    """The optimum lies on the edge of what is feasible: a last bit can put a point beyond it."""
    normal, seen = np.arange(1, 31, dtype=np.float32), set()

    def fn(solutions):
        seen.update(row.tobytes() for row in solutions)
        return [((x - 1) ** 2).sum() if normal @ x <= 1 else np.inf for x in solutions]

    result = jaxes.minimize(fn, np.zeros(30, np.float32), strategy, host=True, budget=3000)
    assert result.solution.tobytes() in seen
    np.testing.assert_allclose(fn(result.solution[None])[0], result.value, rtol=1e-6)


@pytest.mark.parametrize("penalty", [3e38, np.inf])
def test_a_penalty_of_any_size_is_a_penalty(penalty):
    def fn(x):
        return jnp.where(x[0] < 0, penalty, sphere(x))

    def strategy(size):
        return jaxes.ars(size, sigma=0.1, learning_rate=0.05)

    result = jaxes.minimize(fn, np.full(3, 0.01), strategy, population_size=16, budget=8000)
    assert result.value < 1e-2


def test_the_budget_is_never_exceeded():
    calls = []

    def fn(solutions):
        calls.append(len(solutions))
        return solutions.sum(axis=1) ** 2

    for restarts in ("none", "ipop", "bipop"):
        calls.clear()
        result = jaxes.minimize(fn, np.ones(3), host=True, budget=333, restarts=restarts)
        assert sum(calls) == result.evaluations <= 333


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (np.zeros(2, complex),),
            {},
            ValueError,
            "mean must be of floats of 32 or 64 bits, got d",
        ),
        ((np.array([1.0, np.nan]),), {}, ValueError, "mean must be finite"),
        (((),), {}, ValueError, "mean must be of at least one number"),
        ((np.ones(2), jaxes.cma_es(8)), {"restarts": "ipop"}, ValueError, "where restarts is"),
        ((np.ones(2), jaxes.cma_es(8)), {"population_size": 9}, ValueError, "population_size is"),
        ((np.ones(2), 3), {}, ValueError, "strategy must be a Strategy, or a function"),
        ((np.ones(2),), {"restarts": "ipo"}, ValueError, "restarts must be .* mean 'ipop'"),
        ((np.ones(2),), {"std": -1.0}, ValueError, "std must be positive and finite"),
        ((np.ones(2),), {"std": np.ones(3)}, ValueError, "std must be a number, or a pytree"),
        ((np.ones(2),), {"bounds": (2.0, 0.0)}, ValueError, "bounds must be low < high"),
        ((np.ones(2),), {"bounds": 3.0}, ValueError, "bounds must be a pair"),
        ((np.ones(2),), {"bounds": (0.5, None)}, ValueError, "bounds must be a pair"),
        ((np.ones(2),), {"bounds": np.eye(2)}, ValueError, "bounds must be a pair .* of each coor"),
        ((np.ones(2),), {"bounds": ([0, 0], [9, 9])}, ValueError, "bounds must be low < high"),
        ((np.ones(2),), {"bounds": [(0, 9)] * 3}, ValueError, "bounds must be a pair"),
        ((np.ones(2),), {"bounds": (2.0, 3.0)}, ValueError, "mean must be within the bounds"),
        ((np.ones(2),), {"budget": 5}, ValueError, "budget must be .* at least 6, one generation"),
        ((np.ones(2),), {"target": float("nan")}, ValueError, "target must be a finite number"),
        ((np.ones(2),), {"target": "1"}, ValueError, "target must be a finite number, got '1'"),
        ((np.ones(2),), {"seed": -1}, ValueError, "seed must be"),
        ((np.ones(2),), {"std": "a"}, ValueError, "std must be a number, or a pytree"),
        ((np.full(2, 1e10, "f"),), {"std": 1e-30}, ValueError, "std must be not so small"),
        ((np.ones(2),), {"population_size": 0}, ValueError, "population_size must be"),
        ((np.ones(2),), {"termination": {}}, ValueError, "termination must be a jaxes.Term"),
        ((np.ones(2), jaxes.cem), {}, ValueError, "the default; give a population_size"),
        ((np.ones(2), lambda size: jaxes.cma_es(8)), {}, ValueError, "of the 6 members"),
        ((np.ones(2), lambda size: size), {}, ValueError, "strategy must be a Strategy"),
        ((np.ones(2),), {"max_restarts": -1}, ValueError, "max_restarts must be"),
        (
            (np.ones(2), lambda size: jaxes.snes(size, sampling="sobol")),
            {"population_size": 2**14, "restarts": "ipop", "budget": 10**8},
            ValueError,
            "max_restarts must be less than 3 with 16384 members at first, got 9: population_size",
        ),
        ((np.ones(2),), {"budgets": 5}, TypeError, "budgets"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        jaxes.minimize(sphere, *arguments, **options)


def test_a_search_inside_a_jitted_function_is_refused():
    with pytest.raises(ValueError, match="mean must be known"):
        jax.jit(lambda x: jaxes.minimize(sphere, x).value)(jnp.zeros(3))


def test_where_nothing_has_a_value_the_answer_is_the_start():
    with pytest.warns(UserWarning, match="no finite value"):
        result = jaxes.minimize(lambda x: jnp.nan * x[0], jnp.ones(3))
    np.testing.assert_array_equal(result.solution, 1)
    assert result.value == np.inf


def test_a_host_function_that_was_not_said_to_be_one_is_refused():
    with pytest.raises(TypeError, match="host=True"):
        jaxes.minimize(lambda x: float(np.sum(np.asarray(x))), np.zeros(3))
    with pytest.raises(ValueError, match=r"fitness_fn must be a function to one real number"):
        jaxes.minimize(lambda x: x, np.zeros(3))
    with pytest.raises(ValueError, match=r"to real fitness of shape \[8\], got .*\[8, 3"):
        jaxes.minimize(lambda x: x, np.zeros(3), host=True)


@pytest.mark.parametrize("search", [jaxes.maximize, jaxes.minimize])
@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (lambda x: None, "got None"),
        (lambda x: x, r"got 'float32\[3\]'"),
        (lambda x: x[0] + 1j, "got 'complex64"),
        (lambda x: x[x > 0].sum(), "host=True"),
        (lambda x: x[range(x[0].astype(int))], "host=True"),
    ],
)
def test_says_what_is_wrong_with_a_function(search, fn, got):
    with pytest.raises((ValueError, TypeError), match=f"fitness_fn .*{got}"):
        search(fn, jnp.zeros(3))


@pytest.mark.parametrize("search", [jaxes.maximize, jaxes.minimize])
def test_a_host_function_may_return_a_list_and_write_into_its_argument(search):
    def fn(x):
        x -= 1.0
        return [sign * float(value) for value in (x**2).sum(1)]

    sign = 1 if search is jaxes.minimize else -1
    result = search(fn, np.zeros(3), host=True, target=sign * 1e-6)
    assert result.reason == "target"
    np.testing.assert_allclose(result.solution, 1, atol=1e-3)


@pytest.mark.parametrize("search", [jaxes.maximize, jaxes.minimize])
def test_host_fitness_has_to_fit_the_dtype_of_the_mean(search):
    def fn(x):
        return 1e40 * x.astype(float).sum(1)

    with pytest.raises(ValueError, match=r"fitness_fn must be within .*float64"):
        search(fn, np.ones(3, np.float32), host=True)
    assert search(fn, np.ones(3), host=True, budget=100).evaluations <= 100


@pytest.mark.parametrize("value", [jnp.inf, -jnp.inf, jnp.nan])
@pytest.mark.parametrize("search", [jaxes.maximize, jaxes.minimize])
def test_fitness_that_says_nothing_ends_the_search(search, value):
    """And is warned of where the call stands, if nothing was found."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = search(lambda x: value + 0 * x[0], jnp.zeros(3))
    assert (result.reason, result.evaluations) == ("tolfunhist", 176)
    found = value == (jnp.inf if search is jaxes.maximize else -jnp.inf)
    said = "fitness_fn gave no finite value of any of 176 solutions"
    told = [(str(each.message), each.filename) for each in warned]
    assert told == ([] if found else [(said, __file__)])


@pytest.mark.parametrize("mean", [[0, 0], np.zeros(2, int), (0.0, np.float32(0)), [[0.0], [0]]])
def test_a_mean_may_be_whole_numbers_or_a_list(mean):
    def fn(x):
        return sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(x))

    result = jaxes.minimize(fn, mean, target=1e-6, population_size=np.int64(8))
    np.testing.assert_allclose(np.ravel(result.solution), 1, atol=1e-2)


def test_a_far_bound_says_that_there_is_none():
    result = jaxes.minimize(
        lambda x: jnp.sum((x - 0.1) ** 2), jnp.full(10, 5.0), std=3.0, bounds=(0, 1e9)
    )
    assert result.value < 1e-12


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([(0, 1), (5, 10)], [1, 5]),  # SciPy's, though (0, 1) could be a low
        (((0, 1), (5, 10)), [1, 5]),
        ([(None, 1), (5, None)], [1, 5]),
        ([(jnp.float32(0), jnp.float32(1)), (np.array(5.0), np.array(10))], [1, 5]),
        ((np.array([0, 5]), np.array([1, 10])), [1, 5]),
        ((np.array([0, 5]), 6.0), [3, 5]),
        ((2.5, 6.5), [3, 2.5]),
    ],
)
def test_bounds_by_coordinate_or_of_all(bounds, expected):
    result = jaxes.minimize(
        lambda x: (x[0] - 3) ** 2 + (x[1] - 2) ** 2,
        np.array([0.5, 6.0]) if np.size(bounds[0]) == 2 else np.array([3.0, 3.0]),
        bounds=bounds,
        target=1e-12,
        budget=3000,
    )
    np.testing.assert_allclose(result.solution, expected, atol=1e-4)


@pytest.mark.parametrize("bounds", [[np.array([0, 1]), (5, 10)], ([0, 5], np.array([1, 10]))])
def test_a_list_beside_an_array_could_be_either(bounds):
    with pytest.raises(ValueError, match=r"bounds must be a pair .low, high. of numbers"):
        jaxes.minimize(sphere, np.array([0.5, 6.0]), bounds=bounds)


def test_bounds_of_three_or_one_coordinates():
    result = jaxes.minimize(sphere, np.ones(3), bounds=[(0, 1), (0, 2), (0, 9)], budget=2000)
    np.testing.assert_allclose(result.solution, [1, 2, 3], atol=1e-3)
    result = jaxes.minimize(lambda x: (x[0] - 3) ** 2, np.ones(1), bounds=[(0, 2)], budget=1000)
    np.testing.assert_allclose(result.solution, 2, atol=1e-3)


@pytest.mark.parametrize(("dim", "size"), [(10, 10), (6, 12)])
def test_a_function_of_columns_is_noticed(dim, size):
    """SciPy's rosen sums over the first axis."""
    with pytest.raises(ValueError, match=r"fitness_fn must be a function to .*fitness of shape"):
        jaxes.minimize(
            scipy.optimize.rosen, np.zeros(dim), jaxes.snes, population_size=size, host=True
        )
    rows = jaxes.minimize(
        lambda x: scipy.optimize.rosen(x.T),
        np.zeros(dim),
        jaxes.snes,
        population_size=size,
        host=True,
        budget=200,
    )
    np.testing.assert_allclose(rows.value, scipy.optimize.rosen(rows.solution), rtol=1e-9)


@pytest.mark.parametrize(
    "mean",
    [
        [[0.0, 0.0], [0.0, 0.0]],
        ([0, 0], [0, 0]),
        [(0,), (0,)],
        [[np.float64(0.0), 0.0], [0, jnp.float32(0)]],
    ],
)
def test_nested_lists_are_an_array(mean):
    result = jaxes.minimize(lambda x: jnp.sum((x - 1) ** 2), mean, target=1e-6)
    assert result.solution.shape == np.shape(mean)
    np.testing.assert_allclose(result.solution, 1, atol=1e-2)


def test_nested_lists_within_a_tree_are_arrays():
    mean = {"a": [[0.0, 0.0], [0, 0]], "b": 0}
    result = jaxes.minimize(
        lambda x: jnp.sum((x["a"] - 1) ** 2) + x["b"] ** 2, mean, target=1e-6, budget=5000
    )
    assert result.solution["a"].shape == (2, 2)
    np.testing.assert_allclose(result.solution["a"], 1, atol=1e-2)


class Point(NamedTuple):
    x: float
    y: float


@pytest.mark.parametrize("mean", [Point(0.0, np.float32(0)), Point(0, 0), lambda key: Point(0, 0)])
def test_a_named_tuple_of_numbers_stays_one(mean):
    result = jaxes.minimize(lambda p: (p.x - 1) ** 2 + (p.y - 2) ** 2, mean, target=1e-8)
    np.testing.assert_allclose([result.solution.x, result.solution.y], [1, 2], atol=1e-3)


def test_a_function_that_gives_the_mean_may_give_a_list():
    result = jaxes.minimize(lambda x: jnp.sum((x - 1) ** 2), lambda key: [0, 0], target=1e-8)
    np.testing.assert_allclose(result.solution, 1, atol=1e-3)


@pytest.mark.parametrize(
    "mean", ["abc", 10**400, np.array(["a"]), 1j], ids=["text", "huge", "texts", "complex"]
)
def test_a_mean_is_made_of_numbers(mean):
    with pytest.raises(ValueError, match="mean must be of floats"):
        jaxes.minimize(sphere, mean)
