"""A diverged episode has no return, whoever asks: results, rows, tables, halving, reports."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from sweep_runs import table

import jaxes
from jaxes.report.runs import read_sweep
from jaxes.report.tables import rank
from jaxes.training.tested import score_of, summarize

LENGTH = 20


def costly(explodes):
    """Costs 1 a step and a little, and explodes at the third where `explodes(action)`."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(1)

    def step(steps, action):
        steps = steps + 1
        cost = 1 + 1e-3 * action[0] ** 2
        reward = jnp.where((steps >= 3) & explodes(action[0]), jnp.nan, -cost)
        return steps, jnp.zeros(1), reward, jnp.bool_(False)

    return jaxes.problems.policy_search(
        jaxes.Environment(reset, step, 1),
        jaxes.policies.mlp((), output="none"),
        episode_length=LENGTH,
        num_test_episodes=4,
        normalize_observations=False,
    )


def test_an_exploding_policy_has_no_return(tmp_path):
    problem, run_dir = costly(lambda action: True), tmp_path / "run"
    result = jaxes.train(problem, jaxes.openai_es(8), num_generations=2, run_dir=run_dir)
    tested = jaxes.evaluate(run_dir, problem, jaxes.openai_es(8), num_episodes=7)
    for each, count in [(result, 4), (tested, 7)]:
        assert (each.status, each.score) == ("diverged", -math.inf)
        assert (each.num_test_episodes, each.num_test_diverged) == (count, count)
        for name in ("mean", "std", "min", "max"):
            assert math.isnan(getattr(each, f"return_{name}"))
    assert math.isnan(result.zero_policy_return)
    assert math.isnan(result.best_return)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["test/return_mean"], last["test/diverged"]) == (None, 4)


def test_some_diverged_episodes_leave_the_mean_of_the_others_and_no_score():
    tests = jaxes.Tests(
        returns=np.array([-2.0, -20.0, np.inf, -10.0]),
        length=np.array([3, 20, 20, 10]),
        diverged=np.array([True, False, False, False]),
        truncated=np.array([False, True, True, False]),
    )
    tested = summarize(tests)
    assert tested["return_mean"] == tested["return_min"] + 5 == tested["return_max"] - 5 == -15
    assert (tested["num_test_episodes"], tested["num_test_diverged"]) == (4, 2)
    assert score_of({"test/return_mean": -15.0, "test/diverged": 2}) == -math.inf
    assert score_of({"test/return_mean": -15.0, "test/diverged": 0}) == -15


@pytest.mark.parametrize("halving", [None, jaxes.Halving((4,), keep=0.5)])
def test_a_sweep_ranks_by_what_survives(tmp_path, halving):
    """Pushing left survives and costs 20; what explodes has paid 2 until then."""
    result = jaxes.sweep(
        costly(lambda action: action > -0.5),
        jaxes.cem(32),
        {"sigma": [1e-6, 1.0]},  # the first cannot leave the policy zero, which explodes
        num_seeds=2,
        num_generations=8,
        test_every=4,
        halving=halving,
        run_dir=tmp_path / "run",
    )
    assert result.best is not None
    assert result.best.values == {"sigma": 1.0}
    assert result.best.score == result.best.return_mean == pytest.approx(-LENGTH, rel=0.01)
    assert {row.status for row in result.results[:2]} == {"diverged"}
    rows = table(tmp_path / "run")
    assert [float(row["score"]) for row in rows[:2]] == [-math.inf] * 2
    ranked = rank(read_sweep(tmp_path / "run"))
    assert ranked[0].values == {"sigma": 1.0}
    assert (ranked[1].iqm, ranked[1].diverged) == (-math.inf, 2)
