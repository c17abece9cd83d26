"""Trials of act, store, fit: cut, resumed, told, from Python and by the command line."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from worlds import point

import jaxes
from jaxes.cli import main
from jaxes.config.plan import load
from jaxes.planning import ensemble_model, planner, reach, true_model
from jaxes.planning.learn import transitions
from jaxes.training.metrics import read_rows

POINT = point(num_steps=12)
PLANNER = planner(jaxes.cem(12, sigma=0.5, elite_fraction=0.25), horizon=4, iterations=2)
CONFIG = """# A test
environment: {name: pendulum}
planner:
  horizon: 5
  strategy: {name: snes, population_size: 8}
training: {num_trials: 2, episode_length: 6, num_test_episodes: 3}
"""


def learn(num_trials=3, environment=POINT, model=None, searched=PLANNER, **options):
    model = model or ensemble_model(
        environment, members=2, hidden=(8,), num_updates=30, batch_size=16
    )
    small = {"episode_length": 12, "num_random_steps": 30, "capacity": 60, "num_test_episodes": 2}
    return jaxes.learn_to_control(
        environment, searched, model, num_trials=num_trials, **(small | options)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory and the result of three trials."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    return directory, learn(run_dir=directory)


def test_trials_are_stored_and_learned_from(whole):
    directory, result = whole
    data = result.state.data
    assert int(data.total) == 30 + 3 * 12
    assert int(data.num_rows) == 60  # the oldest made way
    kept = np.asarray(data.observations[:, 0] + 0.2 * data.next_observations[:, 1])
    np.testing.assert_allclose(kept, data.next_observations[:, 0], atol=1e-5)
    rows, _ = read_rows(directory / "metrics.jsonl")
    assert [row["generation"] for row in rows] == [1, 2, 3]
    assert [("plan/seconds" in row) for row in rows] == [True, True, False]  # the last has a test
    for row in rows:
        assert {"plan/best", "model/loss", "model/bounded"} <= row.keys()
        assert row["rollout/env_steps"] == 12
        assert 0 <= row["model/bounded"] <= 1
    assert result.env_steps == 36
    assert (result.generation, result.status, result.num_test_episodes) == (3, "done", 2)


def test_a_run_that_was_cut_ends_in_the_same_bits(whole, tmp_path):
    directory, result = whole
    cut = tmp_path / "cut"
    shutil.copytree(directory, cut)
    for generation in (2, 3):
        shutil.rmtree(cut / "checkpoints" / str(generation))
    again = learn(run_dir=cut, resume=True)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.state, result.state))
    np.testing.assert_array_equal(again.return_mean, result.return_mean)

    def told(path):
        rows = read_rows(path / "metrics.jsonl")[0]
        timed = ("time/seconds", "plan/seconds")
        return [{name: row[name] for name in row if name not in timed} for row in rows]

    assert told(cut) == told(directory)
    with pytest.raises(ValueError, match="already holds a run"):
        learn(run_dir=cut)
    with pytest.raises(ValueError, match=r"training\.capacity"):
        learn(run_dir=cut, resume=True, capacity=70)
    another = PLANNER._replace(objective=reach((0.0, 0.0)))
    with pytest.raises(ValueError, match=r"parts\.planner\.objective"):
        learn(run_dir=cut, resume=True, searched=another)


def test_what_is_learned_controls(whole):
    _, result = whole
    model = ensemble_model(POINT, members=2, hidden=(8,), num_updates=30, batch_size=16)
    episodes = jaxes.control(
        POINT, PLANNER, model, model_state=result.state.model, episode_length=12
    )
    assert np.isfinite(episodes.returns[0])
    assert np.all(episodes.model["bounded"] >= 0)


def test_the_true_model_beats_standing_still_and_its_tests_are_fresh():
    rows = []
    result = learn(
        3,
        model=true_model(POINT),
        num_test_episodes=1,
        test_every=1,
        callback=lambda row, state: rows.append(row),
    )
    trials = [row["return/mean"] for row in rows]
    assert len({*trials, *(row["test/return_mean"] for row in rows)}) == 6
    assert result.return_mean > result.zero_policy_return
    assert result.state.data is None
    assert result.episode_length == 12


def test_an_environment_that_diverges_is_told_and_not_learned_from():
    def step(state, action):
        (x, steps), observation, reward, done = POINT.step(state, action)
        return (x, steps), observation, jnp.where(steps == 5, jnp.nan, reward), done

    broken = POINT._replace(step=step)
    result = learn(1, broken, true_model(POINT))
    assert result.num_diverged == 1
    assert result.status == "diverged"
    episodes = jaxes.control(broken, PLANNER, true_model(POINT), episode_length=12)
    rows, usable = transitions(episodes)
    np.testing.assert_array_equal(usable, np.arange(12) < 4)
    np.testing.assert_array_equal(rows.next_observations[:3], rows.observations[1:4])


def test_bad_input_is_one_line(tmp_path):
    for options, message in [
        ({"num_trials": 0}, "num_trials must be a whole number of at least 1"),
        ({"num_random_steps": 0}, "num_random_steps must be"),
        ({"capacity": 20}, "capacity must be a whole number of at least 30"),
        ({"policy": "mlp"}, "policy must be a Policy"),
        ({"resume": True}, "resume must be False without a run_dir"),
        ({"run_dir": ""}, "run_dir must be a path or None, got ''"),
        ({"loggers": 3}, "loggers must be of tensorboard, wandb"),
        ({"model": true_model(POINT)._replace(fit=lambda *x: 3)}, "model.fit must be a function"),
        ({"model": true_model(POINT)._replace(fit=lambda *x: 1 / 0)}, "model.fit fails"),
        ({"target_return": "high"}, "target_return must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            learn(**options)


def test_the_command_line_plans_resumes_and_reports(tmp_path, capsys):
    (tmp_path / "plan.yaml").write_text(CONFIG)
    run_dir = str(tmp_path / "run")
    assert main(["plan", str(tmp_path / "plan.yaml"), "--run-dir", run_dir, "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["generation"], result["num_test_episodes"]) == (2, 3)
    assert "trial 2/2" in said.err
    assert main(["resume", run_dir]) == 0
    assert "all trials are done; to go on, raise num_trials" in capsys.readouterr().out
    assert main(["evaluate", run_dir, "--episodes", "5", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert (evaluated["num_test_episodes"], evaluated["generation"]) == (5, 2)
    assert evaluated["return_mean"] != evaluated["zero_policy_return"]
    assert main(["report", run_dir, "--no-films"]) == 0
    assert "planning with snes" in (tmp_path / "run" / "report.html").read_text()
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert resolved["planner"]["objective"] == {"name": "sum_of_rewards", "discount": 1.0}
    assert resolved["model"]["name"] == "true_model"
    assert main(["train", str(tmp_path / "plan.yaml")]) == 2
    assert "run it with `jaxes plan`" in capsys.readouterr().err


def test_python_and_the_config_are_the_same_run(tmp_path):
    numbers = PLANNER.strategy.hparams._replace(sigma=0.1)
    changed = planner(PLANNER.strategy._replace(hparams=numbers), horizon=4, iterations=2)
    pendulum = jaxes.environments.pendulum()
    learn(np.int64(1), pendulum, true_model(pendulum), changed, run_dir=tmp_path / "changed")
    written = yaml.safe_load((tmp_path / "changed" / "config.yaml").read_text())
    assert written["planner"]["strategy"]["cem"]["sigma"] == 0.1
    (tmp_path / "plan.yaml").write_text(CONFIG)
    config = load(tmp_path / "plan.yaml")
    environment, plans, model, training = config.build()
    jaxes.learn_to_control(environment, plans, model, run_dir=tmp_path / "run", **training)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    again = load(tmp_path / "run" / "config.yaml").resolved
    for section in ("environment", "planner", "model"):
        assert again[section] == config.resolved[section]
    assert written["training"]["num_trials"] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("planner.horizon=0", "planner.horizon must be a whole number of at least 1, got 0"),
        ("planner.noise=pink", "planner.noise: unknown value 'pink'"),
        ("planner.strategy.name=sgd", "planner.strategy.name: unknown value 'sgd'"),
        ("planner.strategy.population_size=1", "planner.strategy.population_size must be"),
        ("planner.objective.name=reach", "planner.objective.target: required"),
        (
            "planner.objective={name: reach, target: [1.0]}",
            "planner.objective.target must be of the 3 numbers of the observation",
        ),
        ("model.name=oracle", "model.name: unknown value 'oracle'"),
        ("model={name: ensemble_model, particles: 3}", "model.particles must be a multiple"),
        ("training.num_trials=0", "training.num_trials must be"),
        ("environment={name: gymnax, env_name: CartPole-v1}", "discrete actions cannot be planned"),
        ("planner.horizn=3", "planner.horizn: unknown field; allowed:"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path, capsys, override, message):
    if "gymnax" in override:
        pytest.importorskip("gymnax")
    (tmp_path / "plan.yaml").write_text(CONFIG)
    run = tmp_path / "run"
    options = ["plan", str(tmp_path / "plan.yaml"), "--set", override, "--run-dir", str(run)]
    assert main(options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not run.exists()
