"""Lanes are measured once, and remembered."""

import json

import jax
import jax.numpy as jnp
import pytest

import jaxes
from jaxes.config import run as config
from jaxes.config.files import ConfigError
from jaxes.rollouts import tuning
from jaxes.rollouts.width import suitable_lanes


def drift():
    """A point that moves by itself."""
    return jaxes.Environment(
        lambda key: (jnp.zeros(()), jnp.zeros(2)),
        lambda state, action: (state + 1, jnp.zeros(2), state, state > 3),
        action_size=1,
        name="'drift'",
    )


@pytest.fixture
def rates(monkeypatch):
    """Candidates with rates of our choice; says which were measured."""
    measured = []

    def rate(environment, network, lanes):
        measured.append(lanes)
        return {32: 1.0, 64: 3.0}.get(lanes, 2.0)

    monkeypatch.setattr(tuning, "steps_per_second", rate)
    return measured


@pytest.fixture
def cache_dir(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_fastest_candidate_is_remembered(cache_dir, rates):
    network = jaxes.policies.mlp((4,))(2, 1)
    assert tuning.tuned_lanes(drift(), network) == 64
    assert rates == list(tuning.CANDIDATES["cpu"])
    assert tuning.tuned_lanes(drift(), network) == 64
    assert len(rates) == len(tuning.CANDIDATES["cpu"])
    assert tuning.tuned_lanes(drift(), jaxes.policies.mlp((5,))(2, 1)) == 64
    assert len(rates) == 2 * len(tuning.CANDIDATES["cpu"])  # another policy is measured anew
    assert list(json.loads((cache_dir / "lanes.json").read_text()).values()) == [64, 64]


def test_the_measure_runs_what_it_says():
    network = jaxes.policies.gru(3)(2, 1)
    assert tuning.steps_per_second(drift(), network, 8) > 0


def test_a_config_may_ask_for_it():
    data = {
        "environment": {"name": "brax", "env_name": "fast"},
        "problem": {"num_lanes": "tune"},
        "strategy": {"name": "cem", "population_size": 32},
        "training": {"num_generations": 1},
    }
    assert config.Config(data).resolved["problem"]["num_lanes"] == "tune"
    with pytest.raises(ConfigError, match="num_lanes"):
        config.Config(data | {"problem": {"num_lanes": "tuned"}})


@pytest.mark.parametrize(
    ("num_jobs", "most", "lanes"),
    [(256, 128, 128), (256, 64, 64), (100, 64, 56), (7, 64, 8), (2048, 128, 128), (130, 128, 72)],
)
def test_lanes_share_the_jobs_in_equal_rounds(num_jobs, most, lanes):
    assert suitable_lanes(num_jobs, most) == lanes  # here on one device
