"""Sweep configs: what they may hold, and which trials they make."""

import numpy as np
import pytest
from sweep_runs import write

from jaxes.config import sweep as sweep_config
from jaxes.config.files import ConfigError


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"grid": {"strategy.cem.sgma": [1.0]}}, "strategy.cem.sgma: unknown field.*mean 'sigma'"),
        ({"grid": {"strategy.cem.sigma": [1.0, "a"]}}, "sigma='a'.*strategy.cem.sigma: .*number"),
        ({"grid": {"strategy.cem.sigma": [1.0, -1.0]}}, "sigma=-1.0.*sigma must be positive"),
        ({"grid": {"strategy.cem.sigma": []}}, r"sweep.grid.strategy.cem.sigma: at least one"),
        ({"grid": {"training.seed": [1]}}, "training.seed is common to all trials"),
        ({"grid": {"training": [{}]}}, "training is common to all trials"),
        (
            {"grid": {"strategy.*.sigma": [1.0], "strategy.cem.sigma": [2.0]}},
            "strategy.cem.sigma is given twice",
        ),
        ({"gird": {}}, "sweep.gird: unknown field"),
        ({"grid": {}}, "sweep.grid: at least one field is required"),
        (
            {"grid": {"strategy.cma_es.sigma": [1.0]}},
            "nothing to a trial whose strategy is cem",
        ),
        ({"num_seeds": 10**8}, "sweep.num_seeds: at most 100000"),
        (
            {"random": {"num_samples": 1, "fields": {"a.b": {"normal": [0, 1]}}}},
            "sweep.random.fields.a.b.normal: unknown field; allowed: uniform",
        ),
        ([1, 2], r"sweep: expected a section, got \[1, 2\]"),
        ({"num_seeds": 0}, "sweep.num_seeds: must be at least 1, got 0"),
        ({"random": {"num_samples": 0, "fields": {}}}, "num_samples: must be at least 1"),
        (
            {"random": {"num_samples": 1, "fields": {"a": {"log_uniform": [0, 1]}}}},
            "log_uniform: must be 0 < low < high, got",
        ),
        (
            {"random": {"num_samples": 1, "fields": {"a": {}}}},
            "sweep.random.fields.a: one of uniform, log_uniform or choice",
        ),
        (
            {"grid": {"problem.num_dims": [2]}, "explicit": [{"problem.num_dims": 3}]},
            "sweep: problem.num_dims is given twice",
        ),
    ],
)
def test_bad_sweeps_are_refused(sweep, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        sweep_config.load(write(tmp_path / "sweep.yaml", sweep=sweep))


def test_repeated_draws_are_one_configuration(tmp_path):
    fields = {"problem.num_dims": {"choice": [2]}}
    sweep = {
        "random": {"num_samples": 3, "fields": fields},
        "grid": {"strategy.*.sigma": [1.0, 1.0]},
    }
    plan = sweep_config.load(write(tmp_path / "sweep.yaml", sweep=sweep))
    assert [len(group.trials) for group in plan.groups] == [1]
    assert plan.repeated == 5  # of six


def test_random_searches_draw_from_their_distributions(tmp_path):
    fields = {
        "strategy.cem.sigma": {"log_uniform": [0.01, 1.0]},
        "strategy.cem.elite_fraction": {"uniform": [0.2, 0.4]},
        "problem.num_dims": {"choice": [2, 3]},
    }
    sweep = {"random": {"num_samples": 100, "fields": fields, "seed": 3}}
    path = write(tmp_path / "sweep.yaml", sweep=sweep)
    plan = sweep_config.load(path)
    again = sweep_config.load(path)
    trials = [trial for group in plan.groups for trial in group.trials]
    assert [trial.values for trial in trials] == [
        trial.values for group in again.groups for trial in group.trials
    ]
    sigma = np.log([trial.values["strategy.cem.sigma"] for trial in trials])
    np.testing.assert_allclose(np.median(sigma), np.log(0.1), atol=0.6)
    fractions = [trial.values["strategy.cem.elite_fraction"] for trial in trials]
    assert 0.2 <= min(fractions) < 0.21
    assert 0.39 < max(fractions) <= 0.4
    assert len(plan.groups) == 2
    assert plan.static == ["problem.num_dims"]
