"""A start from what one has: a vector, parameters, or a run."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import jaxes
from jaxes import cli

WALK = jaxes.Environment(
    lambda key: (jnp.zeros(()), jnp.array([5.0, 0.0])),
    lambda t, action: (t + 1, jnp.array([5.0, 3.0]) * t, -jnp.sum((action - 1) ** 2), t > 4),
    action_size=1,
)


def search(**options):
    options = {"episode_length": 8, "num_test_episodes": 4, "num_lanes": 4} | options
    return jaxes.problems.policy_search(WALK, jaxes.policies.mlp((3,)), **options)


STRATEGY = jaxes.openai_es(8, sigma=0.1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    return jaxes.train(search(), STRATEGY, num_generations=3, run_dir=run_dir)


def first_state(**options):
    """That of a run that has not moved: its learning rate is zero."""
    still = jaxes.openai_es(8, learning_rate=1e-30, weight_decay=0.0)
    return jaxes.train(search(), still, num_generations=1, **options).state


@pytest.mark.parametrize("kind", ["vector", "list", "parameters", "path", "text"])
def test_a_search_begins_where_it_is_told(kind, finished):
    mean, problem = np.asarray(finished.state.strategy.mean), search()
    parameters = problem.policy(jnp.asarray(mean), finished.state.problem).init(None)
    given = {
        "vector": mean,
        "list": mean.tolist(),
        "parameters": parameters,
        "path": finished.run_dir,
        "text": str(finished.run_dir),
    }[kind]
    state = first_state(mean=given)
    np.testing.assert_allclose(state.strategy.mean, mean, rtol=1e-6)
    observations = finished.state.problem.observations
    before = observations.count if kind in ("path", "text") else 0
    added = 8 * 6
    assert state.problem.observations.count == before + added


def test_a_run_is_gone_on_with_by_its_own_start(finished, tmp_path):
    """Its source may have changed, or be gone."""
    source = tmp_path / "source"
    shutil.copytree(finished.run_dir, source)
    options = {"mean": source, "seed": 5, "checkpoint_every": 1}
    whole = jaxes.train(search(), STRATEGY, num_generations=3, **options)
    jaxes.train(search(), STRATEGY, num_generations=1, run_dir=tmp_path / "run", **options)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.rmtree(source)
    again = jaxes.train(
        search(), STRATEGY, num_generations=3, run_dir=tmp_path / "run", resume=True, **options
    )
    for a, b in zip(jax.tree.leaves(again.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(
        ValueError, match=r"mean: the run in .* has '/.*source', got '[0-9a-f]{16}'"
    ):
        jaxes.train(
            search(), STRATEGY, num_generations=3, run_dir=tmp_path / "run", resume=True,
            seed=5, mean=np.zeros(13),
        )  # fmt: skip


def test_trials_begin_there_and_are_their_runs_alone(finished, tmp_path):
    sweep = jaxes.sweep(
        search(), STRATEGY, {"sigma": [0.1, 0.3]}, num_generations=2, mean=finished.run_dir,
        run_dir=tmp_path,
    )  # fmt: skip
    alone = jaxes.train(
        search(), jaxes.openai_es(8, sigma=0.3), num_generations=2, mean=finished.run_dir
    )
    np.testing.assert_array_equal(
        sweep.results[1].state.strategy.mean, np.asarray(alone.state.strategy.mean)
    )
    assert (tmp_path / "trials" / "0001" / "start.npz").exists()
    again = jaxes.sweep(
        search(), STRATEGY, {"sigma": [0.1, 0.3]}, num_generations=2, run_dir=tmp_path, resume=True
    )
    assert again.results[1].return_mean == sweep.results[1].return_mean


def test_a_config_names_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {
        "problem": {"name": "sphere", "num_dims": 4},
        "strategy": {"name": "cma_es", "population_size": 8},
        "training": {"num_generations": 20},
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["train", "a.yaml", "--run-dir", "a"]) == 0
    more = ["--set", "training.mean=a", "--set", "training.num_generations=1"]
    assert cli.main(["train", "a.yaml", *more, "--run-dir", "b"]) == 0
    first, second = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in "ab"
    )
    assert second[0]["fitness/max"] > first[0]["fitness/max"]
    shutil.rmtree("a")
    monkeypatch.chdir("/")
    assert cli.main(["resume", str(tmp_path / "b")]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "a.yaml", "--set", "training.mean=nowhere", "--run-dir", "c"]) == 2
    assert "nowhere is no run that has a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (np.zeros(12), r"mean must be of the problem's 13 parameters, got 12"),
        (np.zeros((13, 1)), r"mean must be a vector \[D\], or parameters, got \[13, 1\]"),
        (np.full(13, np.nan), "mean must be finite"),
        (np.full(13, 1e300), "mean must be numbers that float32 can hold"),
        ({"w": np.zeros(13)}, "mean must be like the policy's parameters"),
        ({}, "mean must be numbers"),
        (["a"], "mean must be numbers"),
        (3j, "mean must be numbers"),
        ("nowhere", "mean: nowhere is no run that has a checkpoint"),
    ],
)
def test_other_parameters_are_refused(mean, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        jaxes.train(search(), STRATEGY, num_generations=1, mean=mean, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_normalizes_otherwise_is_refused(finished):
    problem = search(normalize_observations=False)
    with pytest.raises(ValueError, match=r"mean: the run .* normalized as here"):
        jaxes.train(problem, STRATEGY, num_generations=1, mean=finished.run_dir)


def test_numbers_of_ones_own_are_kept_beside_the_config(tmp_path, monkeypatch):
    """So that the config starts the same run anew, also where it has been moved."""
    problem, strategy = jaxes.problems.functions.sphere(3), jaxes.cma_es(6)
    monkeypatch.chdir(tmp_path)
    options = {"num_generations": 2, "mean": [1.0, 2.0, 3.0]}
    run = jaxes.train(problem, strategy, run_dir="a", **options)
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["training"]["mean"] == (
        "start.npz"
    )
    shutil.move("a", "b")
    assert cli.main(["train", "b/config.yaml", "--run-dir", "c"]) == 0
    rows = [
        [json.loads(line)["fitness/max"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in "bc"
    ]
    assert rows[0] == rows[1]
    assert cli.main(["resume", "b"]) == 0
    again = jaxes.train(problem, strategy, run_dir="b", resume=True, **options)
    assert again.return_mean == run.return_mean
    with pytest.raises(ValueError, match="mean: the run in b has"):
        jaxes.train(problem, strategy, run_dir="b", resume=True, num_generations=2, mean=[1, 2, 4])
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    assert cli.main(["resume", "../b"]) == 0


def test_another_run_is_another_start(finished, tmp_path):
    shutil.copytree(finished.run_dir, tmp_path / "other")
    options = {"num_generations": 1, "run_dir": tmp_path / "run"}
    jaxes.train(search(), STRATEGY, mean=finished.run_dir, **options)
    jaxes.train(search(), STRATEGY, mean=finished.run_dir, resume=True, **options)
    with pytest.raises(ValueError, match=r"mean: the run in .* has '/.*first', got '/.*other'"):
        jaxes.train(search(), STRATEGY, mean=tmp_path / "other", resume=True, **options)
