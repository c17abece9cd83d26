"""One policy in many tasks, and in systems that are drawn: each number by an episode played by
hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from apart import said_by
from jax.extend.core import jaxprs_in_params
from sweep_runs import rows_of
from winds import (
    NUM_STEPS,
    SETTINGS,
    Wind,
    key_of,
    number_of,
    population_of,
    return_of,
    spread,
    stairs,
    wind,
)

import jaxes
from jaxes import Ramp
from jaxes.core import TEST, TRAIN
from jaxes.environments.randomize import Range
from jaxes.problems.tasks import Task, physics_of
from jaxes.randomize import randomized, scale, uniform
from jaxes.report.render import film_of

KEY = jax.random.key(5)
POLICY = jaxes.policies.linear(output="none")
COUNTS = {"calm": 1, "gale": 3, "stairs": 2}
NUM_TESTS = SETTINGS["num_test_episodes"]
IN_ONE = SETTINGS | {"num_episodes": 2, "normalize_observations": True}


def gale():
    """Its base system is that of `wind()`."""
    changes = uniform("drift", -1, Ramp(1, 3, 10)) | scale("push", 0.5, 2)
    return randomized(wind(), changes, uniform("drift", 5, 6))


def tasks():
    return {"calm": wind(), "gale": gale(), "stairs": stairs()}


class Judged:
    """A problem, of which one program is compiled."""

    def __init__(self, problem):
        self.problem, self.traces = problem, 0

        def evaluate(*arguments):
            self.traces += 1
            return problem.evaluate(*arguments)

        self.evaluate = jax.jit(evaluate)

    def __call__(self, members=None, key=KEY, phase=TRAIN, generation=0, **numbers):
        population = population_of(spread() if members is None else members)
        state = self.problem.init(key, self.problem.hparams._replace(**numbers))
        if state.generation is not None:
            state = state._replace(generation=jnp.int32(generation))
        return self.evaluate(key, population, state, jnp.int32(phase))


@pytest.fixture(scope="module")
def judged():
    weights = {"calm": 1.0, "gale": Ramp(1, 5, 20), "stairs": 2.0}
    problem = jaxes.problems.many(tasks(), POLICY, weights=weights, num_episodes=COUNTS, **SETTINGS)
    return Judged(problem)


def drawn_wind(key, high=1.0):
    """The system of a gale's episode of this key."""
    return Wind(drift=number_of(key, 0, -1, high), push=number_of(key, 1, 0.5, 2))


def by_hand(members, key=KEY, high=1.0):
    """The returns [N, 6] of the episodes of a generation."""
    in_queue = [key_of(key, episode) for episode in range(4)]
    gales = [drawn_wind(each, high) for each in in_queue]

    def returns(member):
        yield return_of(wind(), in_queue[0], member)
        for episode in (1, 2, 3):
            yield return_of(wind(), in_queue[episode], member, system=gales[episode])
        for episode in (0, 1):
            yield return_of(stairs(), key_of(key, episode, queue=1), member)

    return np.array([list(returns(member)) for member in members])


@pytest.fixture(scope="module")
def returns():
    return by_hand(spread())


def weighted_mean(returns, calm, gale, stairs):
    each = np.array([calm, *[gale / 3] * 3, *[stairs / 2] * 2])
    return returns @ each / each.sum()


def test_fitness_is_the_weighted_mean_of_episodes_played_by_hand(judged, returns):
    found = judged()
    np.testing.assert_allclose(found.fitness, weighted_mean(returns, 1, 1, 2), rtol=1e-4)
    means = {"calm": returns[:, 0], "gale": returns[:, 1:4], "stairs": returns[:, 4:]}
    means = {name: some.mean() for name, some in means.items()}
    for name, mean in means.items():
        np.testing.assert_allclose(found.metrics[f"return/{name}"], mean, rtol=1e-4)
    np.testing.assert_allclose(found.metrics["return/mean"], np.mean([*means.values()]), rtol=1e-4)
    worst, best = min(means.values()), max(means.values())
    np.testing.assert_allclose(found.metrics["return/worst_task"], worst, rtol=1e-4)
    np.testing.assert_allclose(found.metrics["return/task_spread"], best - worst, rtol=1e-4)
    assert set(found.metrics) & {"return/base", "return/randomized"} == set()


@pytest.mark.parametrize(
    ("generation", "high", "weight"), [(5, 2.0, 2.0), (10, 3.0, 3.0), (20, 3.0, 5.0)]
)
def test_ranges_and_weights_follow_their_ramps(judged, generation, high, weight):
    found = judged(generation=generation)
    expected = weighted_mean(by_hand(spread(), high=high), 1, weight, 2)
    np.testing.assert_allclose(found.fitness, expected, rtol=1e-4)
    state = found.problem_state
    assert state.generation == generation + 1
    assert state.hparams.weights["gale"] == (1, 5, 20)
    assert state.hparams.tasks["gale"]["randomize"]["drift"].high == (1, 3, 10)


def test_weights_and_ranges_are_numbers_of_one_program(judged, returns):
    base = judged()
    weights = {"calm": 0.0, "gale": Ramp(4.0, 4.0, 1), "stairs": 3.0}
    np.testing.assert_allclose(
        judged(weights=weights).fitness, weighted_mean(returns, 0, 4, 3), rtol=1e-4
    )
    ranges = judged.problem.hparams.tasks["gale"]["randomize"]
    still = ranges | {"drift": ranges["drift"]._replace(high=Ramp(-1, -1, 1))}
    found = judged(tasks={"gale": {"randomize": still}})
    assert found.metrics["return/gale"] != base.metrics["return/gale"]
    np.testing.assert_allclose(
        found.fitness, weighted_mean(by_hand(spread(), high=-1.0), 1, 1, 2), rtol=1e-4
    )
    judged(phase=TEST)
    assert judged.traces == 1


def test_all_members_meet_the_same_systems_and_each_generation_new_ones(judged):
    same = np.repeat(spread(1), 4, axis=0)
    first, second = judged(same), judged(same, key=jax.random.key(6))
    for found in (first, second):
        assert len(set(np.asarray(found.fitness).tolist())) == 1
    assert first.fitness[0] != second.fitness[0]
    np.testing.assert_allclose(
        second.fitness[0],
        weighted_mean(by_hand(same[:1], jax.random.key(6)), 1, 1, 2)[0],
        rtol=1e-4,
    )


def test_tests_are_told_apart_and_each_is_of_its_own_systems(judged):
    tests = judged(phase=TEST, generation=10).tests
    mean = spread().mean(axis=0)
    # In the order of their episodes, after the four that members have in this queue.
    blocks = ["calm", "gale", "gale/randomized", "gale/held_out"]
    assert set(tests) == {*blocks, "stairs"}
    systems = {
        "calm": lambda key: Wind(),
        "gale": lambda key: Wind(),
        "gale/randomized": lambda key: drawn_wind(key, high=3.0),
        "gale/held_out": lambda key: Wind(drift=number_of(key, 0, 5, 6)),
    }
    for i, name in enumerate(blocks):
        keys = [key_of(KEY, 4 + NUM_TESTS * i + episode) for episode in range(NUM_TESTS)]
        expected = [return_of(wind(), key, mean, system=systems[name](key)) for key in keys]
        np.testing.assert_allclose(tests[name].returns, expected, rtol=1e-4, err_msg=name)
    keys = [key_of(KEY, 2 + episode, queue=1) for episode in range(NUM_TESTS)]
    expected = [return_of(stairs(), key, mean) for key in keys]
    np.testing.assert_allclose(tests["stairs"].returns, expected, rtol=1e-4)


def test_tasks_of_one_physics_share_a_queue_and_no_branch_is_a_task():
    found = [Task.of(environment, 1, name) for name, environment in tasks().items()]
    of_winds, of_stairs = physics_of(found)
    assert [place for place, _ in of_winds.tasks] == [0, 1]
    assert [place for place, _ in of_stairs.tasks] == [2]
    assert (of_winds.differs, of_stairs.differs) == ((0, 1), ())
    problem = jaxes.problems.many(tasks(), POLICY, num_episodes=COUNTS, **SETTINGS)
    arguments = KEY, population_of(spread()), problem.init(KEY), jnp.int32(TRAIN)
    jaxpr = jax.make_jaxpr(problem.evaluate)(*arguments).jaxpr
    branches = [len(each.params["branches"]) for each in equations(jaxpr, "cond")]
    assert branches
    assert max(branches) == 2


def equations(jaxpr, primitive):
    """All of a primitive, wherever they are."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == primitive:
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, primitive)


def untidy(system=Wind()):  # noqa: B008
    """A wind whose observation is a dict."""
    plain = wind(system)

    def seen(observation):
        return {"x": observation[0], "one": observation[1:]}

    def reset(key):
        x, observation = plain.reset(key)
        return x, seen(observation)

    def step(x, action):
        x, observation, reward, done = plain.step(x, action)
        return x, seen(observation), reward, done

    return plain._replace(reset=reset, step=step, with_system=untidy)


def test_environments_that_are_tidied_share_a_queue_too():
    found = [Task.of(untidy(system), 1, f"t{i}") for i, system in enumerate([Wind(), Wind(2.0)])]
    assert [physics.differs for physics in physics_of(found)] == [(0,)]


def test_the_policy_is_told_which_task_it_is_and_in_which_system():
    found = [Task.of(environment, 1, name) for name, environment in tasks().items()]
    for i, physics in enumerate(physics_of(found, "one_hot")):
        for place, task in physics.tasks:
            system = physics.draw("base", place, task, None, KEY)
            for environment in (
                physics.environment_in(system),
                physics.environment_of(place, task),
            ):
                _, observation = environment.reset(KEY)
                _, own = task.environment.reset(KEY)
                np.testing.assert_array_equal(observation, [*own, *np.eye(3)[place]])
        assert i == (place == 2)
    of_winds, of_stairs = physics_of(found, "parameters")
    _, task = of_winds.tasks[1]
    ranges = {"drift": Range(-1, 1), "push": Range(0.5, 2)}
    system = of_winds.draw("randomized", 1, task, ranges, KEY)
    told = drawn_wind(KEY)
    state, observation = of_winds.environment_in(system).reset(KEY)
    np.testing.assert_allclose(observation[2:], told, rtol=1e-6)
    observation = of_winds.environment_in(system).step(state, jnp.zeros(1))[1]
    np.testing.assert_allclose(observation[2:], told, rtol=1e-6)
    _, observation = of_stairs.environment_of(2, found[2]).reset(KEY)
    np.testing.assert_array_equal(observation[2:], [0, 0])  # it has fewer: none differ


def sized(size, num_actions=None):
    """Of so many observations, which earns what it sees, and the action."""

    def step(state, action):
        return state, jnp.ones(size), 10.0 * size + action.astype(float).sum(), jnp.bool_(False)

    names = {"action_size": size} if num_actions is None else {"num_actions": num_actions}
    return jaxes.Environment(lambda key: (0.0, jnp.ones(size)), step, **names)


def test_shorter_observations_and_actions_are_padded():
    found = [Task.of(sized(size), 1, f"of_{size}") for size in (1, 3)]
    with pytest.raises(
        ValueError, match=r"tasks must be of as many observations, or padded .*1.*3"
    ):
        physics_of(found)
    small, large = physics_of(found, "one_hot", pad=True)
    environment = small.environment_of(0, found[0])
    state, observation = environment.reset(KEY)
    assert observation.tolist() == [1, 0, 0, 1, 0]
    assert environment.action_size == 3
    _, observation, reward, _ = environment.step(state, jnp.array([4.0, 100.0, 100.0]))
    assert (observation.tolist(), float(reward)) == ([1, 0, 0, 1, 0], 14)
    _, observation = large.environment_of(1, found[1]).reset(KEY)
    assert observation.tolist() == [1, 1, 1, 0, 1]


def test_a_discrete_action_beyond_a_tasks_own_is_its_last():
    found = [Task.of(sized(1, count), 1, f"of_{count}") for count in (2, 5)]
    with pytest.raises(ValueError, match="tasks must be of as many actions, or padded"):
        physics_of(found)
    small, _ = physics_of(found, pad=True)
    environment = small.environment_of(0, found[0])
    assert environment.num_actions == 5
    assert environment.action(jnp.arange(5.0)) == 4
    earned = [float(environment.step(0.0, jnp.int32(action))[2]) for action in (0, 1, 4)]
    assert earned == [10, 11, 11]
    with pytest.raises(ValueError, match="whose actions are all discrete or all continuous"):
        physics_of([found[0], Task.of(sized(1), 1, "other")], pad=True)


def test_a_condition_reaches_the_policy_and_the_worst_task_that_counts_decides():
    problem = jaxes.problems.many(
        tasks(),
        POLICY,
        condition="one_hot",
        aggregate="min",
        weights={"calm": 1, "gale": 2, "stairs": 0},
        num_episodes={"calm": 1, "gale": 1, "stairs": 2},
        **SETTINGS,
    )
    members = spread(size=5)
    found = Judged(problem)(members)
    gales = key_of(KEY, 1)

    def of(place):
        return {"see": lambda observation: jnp.append(observation, jnp.eye(3)[place])}

    expected = [
        min(
            return_of(wind(), key_of(KEY, 0), member, **of(0)),
            return_of(wind(), gales, member, system=drawn_wind(gales), **of(1)),
        )
        for member in members
    ]
    np.testing.assert_allclose(found.fitness, expected, rtol=1e-4)


@pytest.fixture(scope="module")
def searches():
    """In the wind, plain and randomized."""
    drawn = randomized(wind(), uniform("drift", 1, 2), uniform("drift", 5, 6))
    return [
        Judged(jaxes.problems.policy_search(environment, POLICY, **IN_ONE))
        for environment in (wind(), drawn)
    ]


def test_tests_in_the_base_system_are_those_of_the_plain_problem(searches):
    plain, drawn = (judged(phase=TEST).tests for judged in searches)
    assert set(drawn) == {"base", "randomized", "held_out"}
    chex.assert_trees_all_equal(drawn["base"], plain)
    # Each unit of drift is earned in 1 + 2 + ... + 5 steps, while the policy does little.
    still = [judged(np.zeros((4, 2)), phase=TEST).tests for judged in searches]
    of_drift = NUM_STEPS * (NUM_STEPS + 1) / 2
    low = still[1]["held_out"].returns.mean() - still[1]["randomized"].returns.mean()
    assert 2.2 * of_drift < low < 5.8 * of_drift
    keys = [key_of(KEY, 2 + NUM_TESTS + episode) for episode in range(NUM_TESTS)]
    for name, low, high in (("randomized", 1, 2), ("held_out", 5, 6)):
        expected = [
            NUM_STEPS * wind().reset(key)[0][0] + of_drift * number_of(key, 0, low, high)
            for key in keys
        ]
        np.testing.assert_allclose(still[1][name].returns, expected, rtol=1e-4)
        keys = [key_of(KEY, 2 + 2 * NUM_TESTS + episode) for episode in range(NUM_TESTS)]


def test_randomized_by_the_identity_is_the_plain_problem(searches):
    environment = randomized(wind(), lambda key, system: system)
    plain = searches[0]
    same = Judged(jaxes.problems.policy_search(environment, POLICY, **IN_ONE))
    assert same.problem.hparams == plain.problem.hparams
    population, states = population_of(spread()), [each.problem.init(KEY) for each in (plain, same)]
    for generation in range(3):
        key = jax.random.fold_in(KEY, generation)
        found = [
            each.evaluate(key, population, state, jnp.int32(TRAIN))
            for each, state in zip((plain, same), states, strict=True)
        ]
        chex.assert_trees_all_equal(*found)
        states = [each.problem_state for each in found]
    assert states[0].observations.count == 3 * 4 * 2 * NUM_STEPS


KEPT = {"checkpoint_every": 1, "test_every": 1}


@pytest.fixture(scope="module")
def described():
    """Of a problem that a config describes."""
    pendulum = jaxes.environments.pendulum()
    heavy = randomized(pendulum, scale("mass", 1.5, Ramp(1.5, 2, 3)), scale("mass", 3, 4))
    return jaxes.problems.many(
        {"light": pendulum, "heavy": heavy},
        jaxes.policies.mlp((2,)),
        episode_length=5,
        num_test_episodes=3,
        condition="one_hot",
    )


@pytest.fixture(scope="module")
def run(described, tmp_path_factory):
    parts = described, jaxes.snes(4)
    settings = KEPT | {"run_dir": tmp_path_factory.mktemp("many") / "run"}
    jaxes.train(*parts, num_generations=1, **settings)
    return jaxes.train(*parts, num_generations=3, resume=True, **settings)


def test_a_run_that_was_cut_is_the_one_that_was_not(run, described, tmp_path):
    path = tmp_path / "run"
    whole = jaxes.train(described, jaxes.snes(4), num_generations=3, run_dir=path, **KEPT)
    chex.assert_trees_all_equal(run.state, whole.state)
    assert run.state.problem.generation == 3
    assert run.tests == whole.tests
    assert rows_of(run.run_dir) == rows_of(path)
    named = {"return/light", "test/heavy/held_out/return_mean", "test/worst_task"}
    assert named <= rows_of(path)[-1].keys()


def test_a_run_of_many_tasks_is_evaluated_from_its_config(run):
    found = jaxes.evaluate(run.run_dir, num_episodes=3)
    assert set(found.tests) == set(run.tests)
    assert found.num_test_episodes == 6


def test_the_policy_of_many_tasks_is_exported(run, described, tmp_path):
    policy = jaxes.export(run, tmp_path / "policy")
    acting = described.policy(run.state.strategy.mean, run.state.problem)
    observation = jnp.array([0.1, -0.2, 0.3, 0.0, 1.0])  # the second task's
    expected, _ = acting.apply(acting.init(KEY), acting.initial_state, observation)
    np.testing.assert_allclose(policy.act(observation), expected, rtol=1e-5)
    tested, of_run = jaxes.evaluate(tmp_path / "policy"), jaxes.evaluate(run.run_dir)
    assert {name for name in of_run.tests if "/" not in name} <= tested.tests.keys()
    assert tested.return_mean == pytest.approx(of_run.return_mean, rel=1e-3)


def test_an_episode_of_the_first_task_is_filmed(run):
    film = film_of(run.run_dir, width=32, height=32)
    assert film.frames.shape[1:] == (32, 32, 3)
    assert film.length == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {}}, "tasks must be environments by name, one at least, got {}"),
        ({"tasks": {"a b": wind()}}, "tasks must be named by letters, digits, _ and -, .* 'a b'"),
        ({"tasks": {"_a": wind()}}, "tasks must be named by .* a letter or digit first, got '_a'"),
        ({"tasks": {"mean": wind()}}, "tasks must be named otherwise than .* got 'mean'"),
        ({"tasks": {"model_config": wind()}}, "tasks must be named otherwise .* 'model_config'"),
        ({"tasks": {"base": wind()}}, r"tasks must be named otherwise .*\(base, .* got 'base'"),
        ({"tasks": {"a": 3}}, "environment must be an Environment, got 3"),
        ({"weights": {"a": -1, "b": 1}}, "weights.a must be at least 0, got -1"),
        ({"weights": {"a": 0, "b": 0}}, "weights must be greater than 0 for one task at least"),
        ({"weights": {"a": Ramp(1, 0, 3), "b": 0}}, "weights must be greater than 0 for one task"),
        ({"weights": 2.0}, "weights must be numbers by task, got 2.0"),
        ({"weights": {"a": 1}}, "weights must be given for each task, b too"),
        ({"weights": {"a": 1, "c": 1}}, "weights must be one of a, b, got 'c'"),
        ({"num_episodes": {"a": 1, "b": 0}}, "num_episodes.b must be a whole number of at least 1"),
        ({"num_episodes": 0}, "num_episodes.a must be a whole number of at least 1, got 0"),
        ({"condition": "onehot"}, "condition must be one of none, .*; did you mean 'one_hot'"),
        ({"condition": "parameters"}, "condition must be none or one_hot: no number of a system"),
        ({"aggregate": "max"}, "aggregate must be one of mean"),
        ({"pad": 1}, "pad must be a bool, got 1"),
        ({"num_episode": 1}, "arguments must be one of .* did you mean 'num_episodes'"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    arguments = {"tasks": {"a": wind(), "b": wind()}, "policy": POLICY} | changes
    with pytest.raises(ValueError, match=message) as refusal:
        jaxes.problems.many(**arguments)
    assert "\n" not in str(refusal.value)


SCRIPT = """
import hashlib, json, sys
import jax, numpy as np
import jaxes
count = int(sys.argv[1])
jaxes.use_cpu_devices(count)
from winds import wind, stairs, SETTINGS
from jaxes import Ramp
from jaxes.randomize import randomized, scale, uniform

gale = randomized(wind(), uniform("drift", -1, Ramp(1, 3, 10)) | scale("push", 0.5, 2))
problem = jaxes.problems.many(
    {"calm": wind(), "gale": gale, "stairs": stairs()}, jaxes.policies.mlp((4,)),
    weights={"calm": 1.0, "gale": Ramp(1, 5, 20), "stairs": 2.0}, condition="parameters",
    aggregate="ranks", **SETTINGS | {"normalize_observations": True})
strategy = jaxes.openai_es(8, sigma=0.3)
settings = {"num_generations": 3, "seed": 3}

def said(state, *more):
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
    return hashlib.sha256(b"".join(leaves)).hexdigest(), *more

def alone(low, weight):
    hparams = problem.hparams
    ranges = hparams.tasks["gale"]["randomize"]
    tasks = {"gale": {"randomize": ranges | {"drift": ranges["drift"]._replace(low=low)}}}
    weights = hparams.weights | {"calm": weight}
    changed = problem._replace(hparams=hparams._replace(tasks=tasks, weights=weights))
    rows = []
    note = lambda row, state: rows.append(
        {name: value for name, value in row.items() if name.startswith(("fitness/", "return/"))})
    result = jaxes.train(changed, strategy, callback=note, **settings)
    return said(result.state, result.tests, rows)

results = {"alone": [alone(-1.0, 1.0)]}
if count == 2:
    results["alone"].append(alone(0.5, 4.0))
    lists = {"drift.low": [-1.0, 0.5], "weights.calm": [1.0, 4.0]}
    pairs = [dict(zip(lists, pair)) for pair in zip(*lists.values())]
    sweep = jaxes.sweep(problem, strategy, pairs, **settings)
    assert len(sweep.states) == 1
    results["sweep"] = [
        said(jax.tree.map(lambda leaf: leaf[i], sweep.states[0]), sweep.results[i].tests)
        for i in range(2)]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results():
    """What the script says, by number of devices."""
    return {count: said_by(SCRIPT, count) for count in (1, 2, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_the_number_of_devices_does_not_change_a_bit(results, count):
    assert results[count]["alone"][0] == results[2]["alone"][0]


@pytest.mark.slow
def test_a_sweep_over_ranges_and_weights_has_the_bits_of_runs_alone(results):
    assert results[2]["sweep"] == [alone[:2] for alone in results[2]["alone"]]
    assert results[2]["alone"][0] != results[2]["alone"][1]


@pytest.mark.slow
def test_a_mixture_of_widths_leads_out_of_the_trap():
    """Of five searches each: trained on the widest trap alone they stay in it, all but one at most;
    trained on widths up to it, with as many episodes, all escape."""
    target = jaxes.environments.trap(2.0, 2.0)
    mixture = randomized(target, uniform("width", 0.05, 2.0))
    escaped = {}
    for environment, episodes in ((target, 1), (mixture, 4)):
        problem = jaxes.problems.policy_search(
            environment,
            small_network,
            num_episodes=episodes,
            episode_length=100,
            num_test_episodes=1,
            normalize_observations=False,
        )
        strategy = jaxes.openai_es(256 // episodes, sigma=0.02, learning_rate=0.02)
        searches = jaxes.sweep(problem, strategy, num_seeds=5, num_generations=200, test_every=200)
        escaped[episodes] = sum(result.measures["escaped"] for result in searches.results)
    assert escaped[1] <= 1
    assert escaped[4] == 5


def small_network(observation_size, action_size):
    """tanh of 3-8-2 on the observation and 1, from small parameters."""

    def init(key):
        first, second = jax.random.split(key)
        return (
            0.1 * jax.random.normal(first, (observation_size + 1, 8)),
            0.1 * jax.random.normal(second, (8, action_size)),
        )

    def apply(params, state, observation):
        return jnp.tanh(jnp.tanh(jnp.append(observation, 1.0) @ params[0]) @ params[1]), state

    return jaxes.policies.Policy(init, (), apply)
