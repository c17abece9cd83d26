"""Configs of runs: what a run made in Python says of itself, and the form that there was before."""

import math

import numpy as np
import pytest
import yaml

import jaxes
from jaxes.config import run as config
from jaxes.config.files import ConfigError
from jaxes.core import TrainHParams
from jaxes.strategies import STRATEGIES
from jaxes.training.identity import config_of
from jaxes.training.schedule import Schedule

TRAINING = Schedule(5, 2, 1, None)._asdict() | {"seed": 3, "loggers": ()}


def described(problem, strategy):
    """Through a file, as a run directory has it."""
    numbers = TrainHParams(strategy.hparams, problem.hparams)
    written = config_of(problem, strategy, numbers, TRAINING)
    return written, config.Config(yaml.safe_load(yaml.safe_dump(written)))


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_a_run_says_of_its_strategy_makes_it_again(name):
    strategy = STRATEGIES[name](16)
    hparams = strategy.hparams._replace(sigma=np.float32(0.25))  # as a sweep has it
    strategy = strategy._replace(hparams=hparams)
    written, read = described(jaxes.problems.functions.sphere(3), strategy)
    again = read.build()
    assert again.strategy.hparams == strategy.hparams
    assert again.strategy.population_size == 16
    assert read.resolved["strategy"][name] == written["strategy"][name]
    assert read.resolved["problem"] == {"name": "sphere", "num_dims": 3}


def test_what_a_run_says_of_an_environment_makes_it_again():
    environment = jaxes.environments.brax(
        "hopper", options={"healthy_z_range": (0.7, math.inf), "terminate_when_unhealthy": False}
    )
    problem = jaxes.problems.policy_search(
        environment, jaxes.policies.mlp((4,)), num_episodes=np.int64(2), alive_penalty=0.5
    )
    written, read = described(problem, jaxes.cem(16, sigma=0.5))
    assert written["environment"]["options"]["healthy_z_range"] == [0.7, math.inf]
    for section in ("environment", "policy"):
        assert read.resolved[section] == written[section]
    assert read.resolved["problem"] == written["problem"]
    assert read.build().problem.spec == problem.spec


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            {"name": "brax", "env_name": "hopper"},
            r"problem.name: 'brax' is an environment now: write `environment: {name: brax, env_name"
            r": hopper}`.*alive_bonus is called alive_penalty",
        ),
        ({"name": "gymnax", "env_name": "CartPole-v1"}, "write `environment: {name: gymnax"),
        ({"name": "sphere", "alive_bonus": 1.0}, "alive_bonus: is called problem.alive_penalty"),
        ({"env_name": "hopper"}, "environment: a section with the field `name` is required, or"),
    ],
)
def test_a_config_of_the_old_form_is_told_the_new_one(problem, message):
    strategy = {"name": "cem", "population_size": 16}
    with pytest.raises(ConfigError, match=message):
        config.Config({"problem": problem, "strategy": strategy, "training": {}})


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("problem", {"alive_bonus": 1.0}, "problem.alive_bonus: is called problem.alive_penalty"),
        (
            "problem",
            {"name": "sphere"},
            "problem.name: stands for a problem without an environment",
        ),
        ("environment", {"env_name": "hoper"}, "environment.env_name .*did you mean 'hopper'"),
        ("environment", {"options": {"forward": 1}}, "environment.options must be one of"),
        ("policy", {"hidden": [0]}, "policy.hidden.* must be .*, got 0"),
        ("problem", {"discount": 1.5}, "problem.discount must be in .0, 1., got 1.5"),
    ],
)
def test_each_section_is_refused_by_its_own_name(section, fields, message):
    data = {
        "environment": {"name": "brax", "env_name": "hopper"},
        "problem": {},
        "policy": {"name": "mlp"},
        "strategy": {"name": "cem", "population_size": 16},
        "training": {"num_generations": 1},
    }
    with pytest.raises(ConfigError, match=message):
        config.Config(data | {section: data[section] | fields}).build()


def test_alive_penalty_is_traced():
    data = {
        "environment": {"name": "brax", "env_name": "fast"},
        "problem": {"alive_penalty": 0.25, "discount": 0.5},
        "strategy": {"name": "cem", "population_size": 16},
        "training": {"num_generations": 1},
    }
    hparams = config.Config(data).build().problem.hparams
    assert (hparams.alive_penalty, hparams.discount) == (0.25, 0.5)
