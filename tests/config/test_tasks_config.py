"""Configs of randomized environments and of many tasks: what they make, sweep and refuse."""

import copy

import pytest
import yaml

import jaxes
from jaxes import Ramp
from jaxes.config import run as config
from jaxes.config import sweep as sweep_config
from jaxes.config.files import ConfigError
from jaxes.core import TrainHParams
from jaxes.problems.tasks import Task, physics_of
from jaxes.randomize import gravity, randomized, scale, uniform
from jaxes.training.identity import config_of
from jaxes.training.schedule import Schedule

ONE = """\
environment:
  name: pendulum
  randomize:
    heavy: {kind: scale, path: mass, low: 0.5, high: 2}
    fall: {kind: gravity, low: 0.7, high: {start: 0.7, end: 1.3, num_generations: 9}}
  test_randomize: {long: {kind: uniform, path: length, low: 1.5, high: 2, shared: true}}
problem: {episode_length: 9, num_test_episodes: 2}
policy: {name: mlp, hidden: [4]}
strategy: {name: snes, population_size: 8}
training: {num_generations: 3}
"""
MANY = """\
environment:
  name: many
  tasks:
    narrow: {name: trap, width: 0.3}
    wide:
      name: trap
      randomize: {width: {kind: uniform, path: width, low: 0.05, high: 2}}
problem:
  episode_length: 9
  num_test_episodes: 2
  weights: {narrow: 1, wide: {start: 0, end: 2, num_generations: 5}}
  num_episodes: {narrow: 1, wide: 2}
  aggregate: cvar(0.5)
  condition: parameters
policy: {name: mlp, hidden: [4]}
strategy: {name: snes, population_size: 8}
training: {num_generations: 3}
"""


def load(tmp_path, text, *overrides):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return config.load(path, overrides)


def test_a_randomized_environment_is_that_of_python(tmp_path):
    problem = load(tmp_path, ONE).build().problem
    ranges = scale("mass", 0.5, 2, name="heavy") | gravity(0.7, Ramp(0.7, 1.3, 9), name="fall")
    tests = uniform("length", 1.5, 2, shared=True, name="long")
    expected = randomized(jaxes.environments.pendulum(), ranges, tests)
    assert problem.hparams.randomize == ranges.ranges
    for field in ("randomize", "test_randomize"):
        assert getattr(problem.environment, field) == getattr(expected, field)
    assert problem.environment.spec == expected.spec


def test_many_tasks_are_those_of_python(tmp_path):
    problem = load(tmp_path, MANY).build().problem
    trap = jaxes.environments.trap
    expected = jaxes.problems.many(
        {"narrow": trap(0.3), "wide": randomized(trap(), uniform("width", 0.05, 2))},
        jaxes.policies.mlp((4,)),
        episode_length=9,
        num_test_episodes=2,
        weights={"narrow": 1, "wide": Ramp(0, 2, 5)},
        num_episodes={"narrow": 1, "wide": 2},
        aggregate="cvar(0.5)",
        condition="parameters",
    )
    assert problem.hparams == expected.hparams
    assert problem.spec == expected.spec
    assert problem.episodes == expected.episodes
    assert list(problem.tasks) == ["narrow", "wide"]
    assert problem.tasks["narrow"].reset is not trap(0.3).reset  # it is told its width


@pytest.mark.parametrize("text", [ONE, MANY], ids=["one", "many"])
def test_what_a_run_says_of_itself_makes_it_again(text, tmp_path):
    setup = load(tmp_path, text).build()
    numbers = TrainHParams(setup.strategy.hparams, setup.problem.hparams)
    training = Schedule(3, 2, 1, None)._asdict() | {"seed": 3, "loggers": ()}
    written = config_of(setup.problem, setup.strategy, numbers, training)
    read = config.Config(yaml.safe_load(yaml.safe_dump(written)))
    for section in ("environment", "problem", "policy"):
        assert read.resolved[section] == written[section]
    again = read.build().problem
    assert again.hparams == setup.problem.hparams
    assert again.spec == setup.problem.spec


def test_a_trial_says_the_numbers_that_it_has(tmp_path):
    """Where they differ from those that the problem was made with, as in a sweep."""
    setup = load(tmp_path, MANY).build()
    problem = setup.problem
    ranges = problem.hparams.tasks["wide"]["randomize"]
    tasks = {"wide": {"randomize": {"width": ranges["width"]._replace(high=1.5)}}}
    weights = {"narrow": 3.0, "wide": Ramp(0.5, 2, 5)}
    numbers = TrainHParams(
        setup.strategy.hparams, problem.hparams._replace(tasks=tasks, weights=weights)
    )
    written = config_of(problem, setup.strategy, numbers, {"num_generations": 1})
    wide = written["environment"]["tasks"]["wide"]["randomize"]["width"]
    assert (wide["low"], wide["high"]) == (0.05, 1.5)
    assert written["problem"]["weights"]["narrow"] == 3
    assert written["problem"]["weights"]["wide"]["start"] == 0.5
    assert problem.spec["problem"]["weights"]["narrow"] == 1  # as it was


def test_weights_that_are_left_out_are_written(tmp_path):
    data = yaml.safe_load(MANY)
    del data["problem"]["weights"]
    setup = config.Config(data).build()
    numbers = TrainHParams(setup.strategy.hparams, setup.problem.hparams)
    written = config_of(setup.problem, setup.strategy, numbers, {"num_generations": 1})
    assert written["problem"]["weights"] == {"narrow": 1, "wide": 1}


def test_set_reaches_into_ranges_and_tasks(tmp_path):
    one = load(tmp_path, ONE, "environment.randomize.heavy.low=0.9").build().problem
    assert one.hparams.randomize["heavy"] == (0.9, 2)
    many = load(
        tmp_path,
        MANY,
        "environment.tasks.wide.randomize.width.high=1.0",
        "environment.tasks.narrow.width=0.5",
        "problem.weights.wide=3",
        "problem.condition=one_hot",
    ).build()
    assert many.problem.hparams.tasks["wide"]["randomize"]["width"] == (0.05, 1.0)
    assert many.problem.hparams.weights == {"narrow": 1, "wide": 3}


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        (ONE, {"environment.randomize.heavy.low": [0.5, 1.0]}),
        (ONE, {"environment.randomize.fall.high.end": [1.0, 1.3]}),
        (
            MANY,
            {
                "environment.tasks.wide.randomize.width.high": [1.0, 2.0],
                "problem.weights.narrow": [0.5, 1.0],
                "problem.weights.wide.end": [1.0, 2.0],
            },
        ),
    ],
    ids=["low", "ramp", "many"],
)
def test_ranges_and_weights_are_swept_in_one_program(text, grid, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(text) | {"sweep": {"grid": grid}}))
    plan = sweep_config.load(path)
    (group,) = plan.groups
    assert plan.static == []
    assert len(group.trials) == 2 ** len(grid)
    for trial in group.trials:
        numbers = config.Config(trial.config).build().problem.hparams
        assert numbers == trial.hparams.problem
    assert len({str(trial.hparams) for trial in group.trials}) == len(group.trials)


def test_a_swept_range_that_is_none_is_refused_by_its_trial(tmp_path):
    grid = {"environment.randomize.heavy.low": [0.5, 3.0]}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(ONE) | {"sweep": {"grid": grid}}))
    message = r"low=3.0: environment.randomize.heavy.low must be at most high, 2.0, got 3.0"
    with pytest.raises(ConfigError, match=message):
        sweep_config.load(path)


@pytest.mark.parametrize("names", [("brax", "env_name: hopper"), ("pendulum", "")])
def test_tasks_that_a_config_makes_share_a_queue(names, tmp_path):
    name, more = names
    text = f"environment: {{name: many, tasks: {{a: &a {{name: {name}, {more}}}, b: *a}}}}\n"
    text += MANY[MANY.index("strategy") :]
    made = load(tmp_path, text).build().problem.tasks
    found = [Task(name, environment, 1, 1) for name, environment in made.items()]
    assert len(physics_of(found)) == 1


RANGE = "environment.randomize.heavy"
NARROW, WIDE = "environment.tasks.narrow", "environment.tasks.wide"


@pytest.mark.parametrize(
    ("text", "path", "value", "message"),
    [
        (ONE, f"{RANGE}.path", "masss", f"{RANGE}: pendulum has no 'masss' .* did you mean 'mass'"),
        (ONE, f"{RANGE}.low", 3, f"{RANGE}.low must be at most high, 2.0, got 3.0"),
        (ONE, f"{RANGE}.low", -1, f"{RANGE}.low must be at least 0, got -1.0"),
        (ONE, f"{RANGE}.low", [1, 2], f"{RANGE}.low must be a finite number, got .1, 2."),
        (ONE, f"{RANGE}.low", "x", f"{RANGE}.low must be a finite number, got 'x'"),
        (ONE, f"{RANGE}.kind", "scal", f"{RANGE}.kind must be one of .* did you mean 'scale'"),
        (ONE, f"{RANGE}.hgh", 3, f"{RANGE} must be one of .*, got 'hgh'; did you mean 'high'"),
        (ONE, f"{RANGE}.shared", "yes", f"{RANGE}.shared must be a bool, got 'yes'"),
        (ONE, "environment.randomize", 3, "environment.randomize: .*, got 3"),
        (ONE, "environment.randomize", {}, "environment.randomize must be a mapping by name, got"),
        (ONE, "environment.randomise", {}, "randomise: unknown field; .* mean 'randomize'"),
        (ONE, "problem.randomize", {}, "problem.randomize: is a field of environment: move it"),
        (ONE, "environment.test_randomize.x", {}, "test_randomize.x.kind must be one of"),
        (ONE, "environment.name", "trap", "environment.randomize.heavy: trap has no 'mass'"),
        (MANY, f"{WIDE}.randomize.width.path", "withd", f"{WIDE}.randomize.width: trap has no 'wi"),
        (MANY, f"{WIDE}.randomize.width.low", 5, f"{WIDE}.randomize.width.low must be at most hig"),
        (MANY, f"{WIDE}.width", "x", f"{WIDE}.width.* should be a valid number.*, got 'x'"),
        (MANY, f"{WIDE}.width", -1, f"{WIDE}.width must be positive, got -1"),
        (MANY, f"{WIDE}.widht", 1, f"{WIDE}.widht: unknown field; .* did you mean 'width'"),
        (MANY, f"{WIDE}.name", "tarp", f"{WIDE}.name: unknown value 'tarp'.* did you mean 'trap'"),
        (MANY, f"{WIDE}.name", "many", f"{WIDE}.name: unknown value 'many'; allowed: brax"),
        (MANY, WIDE, 3, f"{WIDE}: a section with the field `name` is required, got 3"),
        (
            MANY,
            NARROW,
            {"name": "pendulum"},
            "environment.tasks must be of as many observations, or padded",
        ),
        (MANY, "environment.tasks", {}, "environment.tasks: a section of environments by name is"),
        (MANY, "environment.tasks", [1], r"environment.tasks: a section of .* got \[1\]"),
        (MANY, "environment.task", {}, "environment.task: unknown field"),
        (
            MANY,
            "environment.tasks.model_config",
            {"name": "trap"},
            "environment.tasks must be named otherwise .* and configs, got 'model_config'",
        ),
        (
            MANY,
            "environment.tasks._x",
            {"name": "trap"},
            "environment.tasks must be named by .* got '_x'",
        ),
        (
            MANY,
            "environment.tasks.base",
            {"name": "trap"},
            "tasks must be named otherwise .* got 'base'",
        ),
        (MANY, "environment.randomize", {}, "environment.randomize: unknown field"),
        (MANY, "problem.weights.narrow", -1, "problem.weights.narrow must be at least 0, got -1"),
        (MANY, "problem.weights", {"narrow": 0, "wide": 0}, "problem.weights must be greater than"),
        (MANY, "problem.weights", {"narrow": 0}, "problem.weights must be given for each task"),
        (MANY, "problem.weights", 2, "problem.weights: .*, got 2"),
        (MANY, "problem.weights.far", 1, "problem.weights must be one of narrow, wide, got 'far'"),
        (MANY, "problem.weights.wide", {"start": 1}, "weights.wide must be with the fields start"),
        (MANY, "problem.num_episodes.wide", 0, "problem.num_episodes.wide must be a whole number"),
        (MANY, "problem.num_episodes", {"wide": 1}, "num_episodes must be given for each task, na"),
        (MANY, "problem.num_episodes", 0, "problem.num_episodes.narrow must be a whole number"),
        (MANY, "problem.condition", "onehot", "problem.condition: unknown value 'onehot'"),
        (MANY, "problem.aggregate", "cvar(2)", r"problem.aggregate must be cvar\(share\)"),
        (MANY, "problem.aggregate", "max", "problem.aggregate must be one of"),
        (MANY, "problem.tasks", {}, "problem.tasks: is a field of environment: move it there"),
        (ONE, "problem.weights", {"a": 1}, "problem.weights: unknown field"),
    ],
)
def test_bad_fields_are_refused_by_their_path(text, path, value, message):
    data = yaml.safe_load(text)
    section = data
    *parents, field = path.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
    section[field] = copy.deepcopy(value)
    with pytest.raises(ConfigError, match=message) as refusal:
        config.Config(data).build()
    assert "\n" not in str(refusal.value)
