"""Random parts of a user's own: each is taken, or refused by a line of jaxes, and quickly.

`JAXES_OBJECTS=10000 pytest -m slow tests/test_what_users_bring.py` tries so many of them, and
trains a hundredth of these.
"""

import os
import statistics
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import jaxes
from jaxes import core
from jaxes.config.run import Config
from jaxes.environments.base import observation_size, tidied
from jaxes.optimize.bounds import Box
from jaxes.optimize.space import as_array, flatten
from jaxes.policies import Policy, make_policy
from jaxes.search import check_scalar

pytestmark = pytest.mark.slow

OBJECTS = int(os.environ.get("JAXES_OBJECTS", "1200"))
PACKAGE = str(Path(jaxes.__file__).parent)
MEDIAN = 0.1  # seconds of a shared core; 0.02 on a quiet one
TRAINED = max(OBJECTS // 300, 2)  # of each of three kinds
WARM_UP = 20  # objects, in which JAX itself is imported and traced


class Raises:
    """What fails when it is made."""

    def __init__(self, error):
        self.error = error

    def __call__(self):
        raise self.error


def array(shape, dtype):
    return lambda: jnp.zeros(shape, dtype)


SHAPES = st.sampled_from([(), (1,), (3,), (0,), (2, 2), (1, 2, 1)])
DTYPES = st.sampled_from(["float32", "int32", "bool", "uint8", "float16", "complex64"])
ODD = st.sampled_from(
    [
        lambda: None,
        lambda: "text",
        lambda: 1j,
        lambda: (),
        dict,
        lambda: object(),
        lambda: jax.random.key(0),
        lambda: np.float64(1),
        lambda: [1, [2.0]],
        lambda: jnp.nan,
        lambda: 10**400,
        Raises(KeyError("mine")),
        Raises(ValueError("mine")),
        Raises(ZeroDivisionError()),
    ]
)


def tree(parts):
    """A function to a pytree of what they make."""
    return st.one_of(
        st.dictionaries(st.sampled_from("abc"), parts, min_size=1, max_size=3).map(
            lambda found: lambda: {name: make() for name, make in found.items()}
        ),
        st.lists(parts, min_size=1, max_size=3).map(
            lambda found: lambda: tuple(make() for make in found)
        ),
    )


FLOATS = st.builds(array, SHAPES, st.just("float32"))
ARRAY = st.builds(array, SHAPES, DTYPES)
NUMBER = st.sampled_from([lambda: 0.0, lambda: 1, lambda: False, lambda: jnp.float32(2)])
GOOD = st.one_of(FLOATS, FLOATS, NUMBER, tree(st.one_of(FLOATS, ARRAY)))
BAD = st.one_of(ARRAY, ODD, tree(ODD), tree(st.one_of(FLOATS, ODD)))
COUNTS = st.sampled_from([2, 3, None, 0, -1, 1.5, "2", True])


@st.composite
def mostly(draw, good, bad=BAD):
    """A good part seven times in eight."""
    return draw(good) if draw(st.integers(0, 7)) else draw(bad)


ONE = st.just(array((), "float32"))
VALUE, SCALAR = mostly(GOOD), mostly(st.one_of(NUMBER, ONE))


@st.composite
def environments(draw):
    state, observation = draw(VALUE), draw(VALUE)
    after, seen = draw(mostly(st.just(state), VALUE)), draw(mostly(st.just(observation), VALUE))
    reward, done = draw(SCALAR), draw(SCALAR)
    parts = draw(mostly(st.just(4), st.sampled_from([3, 5])))

    def step(state, action):
        return (after(), seen(), reward(), done(), {})[:parts]

    odd = st.sampled_from([lambda: (), lambda key: state()])
    reset = draw(mostly(st.just(lambda key: (state(), observation())), odd))
    measure = draw(st.sampled_from([None, None, lambda state: {"x": reward()}]))
    actions = draw(mostly(st.sampled_from([(1, None), (None, 2)]), st.tuples(COUNTS, COUNTS)))
    return jaxes.Environment(reset, step, actions[0], "mine", actions[1], measure)


@st.composite
def policies(draw):
    params, memory = draw(VALUE), draw(mostly(st.one_of(st.just(lambda: ()), GOOD)))
    outputs = draw(mostly(st.just(array((2,), "float32"))))
    after = draw(mostly(st.just(memory), VALUE))
    pair = draw(mostly(st.just(2), st.sampled_from([1, 3])))
    keyed, whole = draw(st.booleans()), draw(mostly(st.just(True), st.just(False)))

    def factory(observation_size, num_outputs):
        first = (lambda key: memory()) if keyed else memory()
        policy = Policy(lambda key: params(), first, lambda *_: (outputs(), after(), ())[:pair])
        return policy if whole else params()

    return factory


@st.composite
def problems(draw):
    state = draw(VALUE)
    after = draw(mostly(st.just(state), VALUE))
    fitness = draw(mostly(st.just(array((4,), "float32"))))
    metric, tests = (
        draw(SCALAR),
        draw(mostly(st.just(some_tests), st.one_of(st.just(lambda: None), BAD))),
    )
    mean = draw(mostly(st.just(array((3,), "float32"))))
    hparams = draw(mostly(st.just(HParams()), st.sampled_from([(), {}, None, 3])))

    def evaluate(key, population, problem_state, phase=0):
        moved = 0 * population().sum() if callable(population) else 0
        value = fitness()
        value = value + moved if getattr(value, "shape", None) == (4,) else value
        return jaxes.Evaluation(value, after(), {"a/b": metric()}, tests())

    return jaxes.Problem(lambda key, hparams=None: state(), evaluate, lambda key: mean(), hparams)


def some_tests():
    no = jnp.zeros(2, bool)
    return jaxes.Tests(jnp.zeros(2), jnp.zeros(2, jnp.int32), no, no)


class HParams(NamedTuple):
    pass


NUMBERS = st.one_of(
    st.floats(), st.integers(-3, 3), st.sampled_from([None, "a", 1j, True, np.inf, -np.inf])
)
INSIDE = st.floats(-1, 1, width=32)
POSITIVE = st.sampled_from([1.0, 0.1, 3, np.float32(2), [1.0, 2.0]])
SOME = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, max_size=3),
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3),
    st.dictionaries(st.sampled_from("ab"), NUMBERS, max_size=2),
    st.builds(np.zeros, SHAPES),
)
MEANS = st.one_of(st.lists(INSIDE, min_size=2, max_size=2), st.tuples(INSIDE, INSIDE))
BOUNDS = st.sampled_from([None, None, (-1, 1), [(-2, 3), (-1, None)], (np.full(2, -1), 9.0)])
SPACES = st.tuples(mostly(MEANS, SOME), mostly(POSITIVE, SOME), mostly(BOUNDS, SOME))
ANY = st.one_of(
    NUMBERS, st.lists(NUMBERS, max_size=2), st.dictionaries(st.text(max_size=3), NUMBERS)
)
SECTIONS = {
    "problem": ["name", "num_dims", "episode_length", "discount", "episode_cap", "num_lanes", "x"],
    "policy": ["name", "hidden", "activation", "output"],
    "strategy": ["name", "population_size", "cem", "cma_es", "snes"],
    "training": ["num_generations", "seed", "mean", "loggers", "checkpoint_every", "target_return"],
    "environment": ["name", "env_name", "backend", "options"],
}
WORDS = st.sampled_from(["sphere", "stub", "cem", "cma_es", "mlp", "linear", "tanh", "wandb", "x"])


@st.composite
def configs(draw):
    data = {
        "strategy": {"name": draw(st.sampled_from(["cem", "cma_es"])), "population_size": 16},
        "training": {"num_generations": 2},
    }
    if draw(st.booleans()):
        data["environment"] = {"name": "stub"}
    else:
        data["problem"] = {"name": "sphere"}
    for section in draw(st.lists(st.sampled_from([*SECTIONS, "policy", "extra"]), max_size=2)):
        fields = draw(
            st.dictionaries(
                st.sampled_from(SECTIONS.get(section, ["x"])), st.one_of(ANY, WORDS), max_size=2
            )
        )
        kept = data.get(section, {}) if draw(st.integers(0, 9)) else None
        data[section] = {**kept, **fields} if isinstance(kept, dict) else draw(ANY)
    return data


def stub(size: int = 1, name: str = "stub"):
    return STUB


STUB = jaxes.Environment(
    lambda key: (jnp.zeros(()), jnp.zeros(2)),
    lambda state, action: (state, jnp.zeros(2), jnp.zeros(()), jnp.zeros((), bool)),
    1,
)


def look_at_problem(problem):
    key, strategy = jax.random.key(0), jaxes.snes(4)
    core.check_parts(strategy, problem)
    state = jax.eval_shape(lambda key: core.init(key, strategy, problem), key)
    population = core.Population(strategy.ask, key, state.strategy, 4)

    def evaluate(state):
        found = core.evaluated(problem, key, population, state.problem, core.TRAIN)
        return found.fitness

    jax.eval_shape(evaluate, state)


def look_at_environment(environment):
    observation_size(environment)
    tidied(environment)


def look_at_policy(factory):
    make_policy(factory, 3, 2)


def look_at_objective(value):
    check_scalar("fitness_fn", lambda x: value(), jnp.zeros(3))


def look_at_space(parts):
    mean, std, bounds = parts
    mean = as_array(mean)
    space = flatten(mean, std, bounds)
    space.coordinates(mean)
    assert space.box is None or isinstance(space.box, Box)


def look_at_config(data):
    Config(data).build()


LOOKS = {
    "environments": (environments(), look_at_environment),
    "policies": (policies(), look_at_policy),
    "problems": (problems(), look_at_problem),
    "objectives": (mostly(st.one_of(NUMBER, ONE)), look_at_objective),
    "spaces": (
        st.tuples(mostly(MEANS, SOME), mostly(POSITIVE, SOME), mostly(BOUNDS, SOME)),
        look_at_space,
    ),
    "configs": (configs(), look_at_config),
}


def drawn(objects, number):
    """Decorates a function of one of them: so many are drawn, the same ones each time."""

    def decorate(fn):
        return settings(
            max_examples=number,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(objects)(fn))

    return decorate


def is_refusal(error):
    """Whether the last thing that happened was a refusal by jaxes, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error).split("\n-----")[0]  # what JAX adds below
    if (last.filename, str(error)) == (__file__, "mine"):
        return True  # a ValueError of the user's own
    own = isinstance(error, ValueError | TypeError) and last.filename.startswith(PACKAGE)
    return own and len(said) > 0 and "\n" not in said


@pytest.mark.parametrize("kind", LOOKS)
def test_whatever_a_user_brings_is_taken_or_refused(kind, monkeypatch):
    monkeypatch.setitem(jaxes.environments.ENVIRONMENTS, "stub", stub)
    objects, look = LOOKS[kind]
    seconds, taken = [], []

    @drawn(objects, OBJECTS // len(LOOKS))
    def each(brought):
        started = time.perf_counter()
        try:
            look(brought)
            taken.append(brought)
        except Exception as error:
            if not is_refusal(error):
                raise
        finally:
            seconds.append(time.perf_counter() - started)

    each()
    median, most = statistics.median(seconds), max(seconds[WARM_UP:])
    print(
        f"{kind}: {len(seconds)} brought, {len(taken)} taken, "
        f"{1000 * median:.1f} ms in the median, {1000 * most:.0f} at most"
    )
    assert len(taken) >= 5
    assert median <= MEDIAN


def train_problem(problem, **options):
    return jaxes.train(problem, jaxes.snes(4), **options)


def train_environment(environment, **options):
    problem = jaxes.problems.policy_search(
        environment, jaxes.policies.linear(), episode_length=3, num_test_episodes=2, num_lanes=2
    )
    return jaxes.train(problem, jaxes.snes(4), **options)


def train_policy(factory, **options):
    environment = STUB._replace(
        reset=lambda key: (jnp.zeros(()), jnp.zeros(3)),
        step=lambda state, action: (state, jnp.zeros(3), action.sum(), jnp.zeros((), bool)),
        action_size=2,
    )
    problem = jaxes.problems.policy_search(
        environment, factory, episode_length=3, num_test_episodes=2, num_lanes=2
    )
    return jaxes.train(problem, jaxes.snes(4), **options)


TRAINS = {
    "environments": train_environment,
    "policies": train_policy,
    "problems": train_problem,
}


@pytest.mark.parametrize("kind", TRAINS)
def test_what_was_taken_is_trained_saved_and_resumed(kind, tmp_path):
    """Two generations, one of them after a resume, are the two of a run that was never cut."""
    objects, look = LOOKS[kind]
    trained = []

    @drawn(objects, 30 * TRAINED)
    def each(brought):
        if len(trained) >= TRAINED:
            return
        try:
            look(brought)
        except Exception:
            return
        run_dir = tmp_path / str(len(trained))
        try:
            TRAINS[kind](brought, num_generations=1, run_dir=run_dir)
        except ValueError as error:  # of what only a run needs, such as tests of the mean
            if not is_refusal(error):
                raise
            print(kind, error)
            return
        cut = TRAINS[kind](brought, num_generations=2, run_dir=run_dir, resume=True)
        whole = TRAINS[kind](brought, num_generations=2)
        for a, b in zip(jax.tree.leaves(cut.state), jax.tree.leaves(whole.state), strict=True):
            np.testing.assert_array_equal(jax.random.key_data(a) if is_key(a) else a,
                                          jax.random.key_data(b) if is_key(b) else b)  # fmt: skip
        trained.append(run_dir)

    each()
    print(f"{kind}: {len(trained)} trained")
    assert len(trained) >= TRAINED / 2


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
