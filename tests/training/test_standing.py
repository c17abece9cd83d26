"""Standing is not learning: what is told beside a return, and what is made of it."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import jaxes
from jaxes import cli
from jaxes.report.runs import read_sweep
from jaxes.report.tables import rank, ranking

LENGTH = 10


def walker(**replaced):
    """One of reward a step for being alive, and what the action moves it; falls below -2."""

    def reset(key):
        return {"x": jnp.zeros(()), "gained": jnp.zeros(())}, jnp.ones(1)

    def step(state, action):
        x = state["x"] + action[0]
        return {"x": x, "gained": action[0]}, jnp.ones(1), 1 + action[0], x < -2

    def measure(state):
        return {"distance": state["x"], "alive_reward": 1.0, "moves": jnp.abs(state["gained"])}

    parts = {"measure": measure, "summed": ("alive_reward", "moves")} | replaced
    return jaxes.Environment(reset, step, 1, "walker", **parts)


def search(environment=None, **options):
    options = {"episode_length": LENGTH, "num_test_episodes": 6, "num_lanes": 4} | options
    policy = jaxes.policies.linear()
    return jaxes.problems.policy_search(environment or walker(), policy, **options)


FIXED = {"num_generations": 1, "mean": [0.25]}
STILL = jaxes.openai_es(4, sigma=1e-6, learning_rate=1e-30, weight_decay=0.0)


def test_episodes_are_measured_in_sums_and_in_their_last_state(tmp_path):
    problem = search(normalize_observations=False)
    result = jaxes.train(problem, STILL, **FIXED, run_dir=tmp_path)
    np.testing.assert_allclose(result.return_mean, 1.25 * LENGTH, rtol=1e-5)
    assert (result.return_min, result.return_median, result.return_max) == pytest.approx(
        (result.return_mean,) * 3
    )
    assert result.episode_length == LENGTH
    assert result.measures == pytest.approx(
        {"alive_reward": 10.0, "distance": 2.5, "moves": 2.5, "alive_share": 0.8}
    )
    assert result.zero_policy_return == LENGTH
    np.testing.assert_allclose(result.population_return, result.return_mean, rtol=1e-4)
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row["test/episode_length"] == LENGTH
    assert {"test/distance", "test/moves", "test/alive_share"} < row.keys()


def test_an_environment_without_measures_has_none():
    result = jaxes.train(search(walker(measure=None, summed=())), STILL, **FIXED)
    assert result.measures == {}


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda state: state["x"], r"walker: measure must be a function to \{name: number"),
        (lambda state: {"x": jnp.ones(2)}, r"walker: measure must be .*float32\[2\]"),
        (lambda state: {1: 1.0}, "walker: measure must be"),
        (lambda state: state["y"], r"walker: measure\(env_state\) fails: KeyError: 'y'"),
        (lambda state: {"return_mean": 9.0}, r"walker: measure must be of names but .*return_mean"),
        (lambda state: {"diverged": 9.0, "x": 1.0}, "walker: measure must be of names but"),
        (lambda state: {"distance": 1.0}, r"walker: summed must be of names .* \['distance'\]"),
    ],
)
def test_other_measures_are_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        search(walker(measure=measure))


def test_brax_tells_of_distance_and_of_being_alive():
    """By names of its metrics."""
    zero = jnp.zeros(())
    environment = jaxes.environments.brax("fast")
    measure = environment.measure
    env_state, _ = environment.reset(jax.random.key(0))
    assert measure(env_state) == {}
    for metrics, names in (
        ({"x_position": zero, "reward_healthy": zero}, {"distance", "alive_reward"}),
        ({"reward_survive": zero, "reward_forward": zero}, {"alive_reward", "forward"}),
        ({"reward_alive": zero, "reward_ctrl": zero}, {"alive_reward"}),
    ):
        found = measure(env_state.replace(metrics=metrics))
        assert found.keys() == names
    assert {"alive_reward", "forward"} == set(environment.summed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep over policies that stand and policies that walk."""
    path = tmp_path_factory.mktemp("sweeps") / "walkers"
    jaxes.sweep(
        search(normalize_observations=False), jaxes.openai_es(8, weight_decay=0.0),
        {"learning_rate": [1e-30, 1.0], "sigma": [0.3]}, num_seeds=3, num_generations=4,
        run_dir=path,
    )  # fmt: skip
    return path


def test_a_ranking_marks_what_does_not_beat_the_zero_policy(finished):
    walks, stands = rank(read_sweep(finished))
    assert (walks.standing, stands.standing) == (False, True)
    assert walks.zero_policy == stands.zero_policy == LENGTH
    assert walks.measures["distance"] > 1 > stands.measures["distance"]
    assert read_sweep(finished).fields == ["learning_rate"]
    shown = ranking(read_sweep(finished), [walks, stands])
    heads = [column.name for column in shown]
    assert heads[0] == "learning_rate"
    assert {"zero policy", "steps", "distance", "alive_share"} < set(heads)
    assert shown[-1].cells == ["", "not above the zero policy"]


def test_a_single_run_is_judged_by_its_test_episodes(finished):
    sweep = read_sweep(finished)
    for noise, standing in ((0.0, False), (1000.0, True)):
        rows = [row | {"return_ci95": noise} for row in sweep.rows[3:4]]
        assert rank(sweep._replace(rows=rows))[0].standing is standing


def test_evaluate_shows_the_spread_and_takes_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    problem = {"episode_length": 6, "num_test_episodes": 4, "num_lanes": 4}
    config = {
        "environment": {"name": "pendulum"},
        "problem": problem,
        "policy": {"name": "linear"},
        "strategy": {"name": "openai_es", "population_size": 4},
        "training": {
            "num_generations": 4,
            "checkpoint_every": 1,
            "test_every": 2,
            "keep_checkpoints": "all",
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["train", "run.yaml", "--run-dir", "run"]) == 0
    out = capsys.readouterr().out
    assert "the zero policy: return " in out
    assert " least " in out.replace("\n", " ")
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if "test/return_mean" in row:
            row["test/return_mean"] = 9.0 if row["generation"] == 2 else 1.0
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for which, generation in (("best", 2), ("latest", 4), ("3", 3)):
        assert cli.main(["evaluate", "run", "--checkpoint", which, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["generation"] == generation
        assert {"return_median", "measures", "episode_length", "population_return"} < found.keys()
    for which in ("7", "worst", "-1"):
        assert cli.main(["evaluate", "run", f"--checkpoint={which}"]) == 2
        assert "checkpoint must be best, latest, or one of 1, 2, 3, 4" in capsys.readouterr().err


def test_a_trial_that_was_resumed_renews_the_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {
        "problem": {"name": "sphere", "num_dims": 3},
        "strategy": {"name": "cma_es", "population_size": 6},
        "training": {"num_generations": 5},
        "sweep": {"grid": {"strategy.cma_es.sigma": [0.5, 1e-6]}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["sweep", "sweep.yaml", "--run-dir", "s"]) == 0
    before = list(csv.DictReader(Path("s/results.csv").read_text().splitlines()))
    best = yaml.safe_load(Path("s/best.yaml").read_text())
    path = tmp_path / "s" / "trials" / "0001" / "config.yaml"
    path.write_text(path.read_text().replace("num_generations: 5", "num_generations: 300"))
    assert cli.main(["resume", "s/trials/0001"]) == 0
    after = list(csv.DictReader(Path("s/results.csv").read_text().splitlines()))
    assert after[0] == before[0]
    assert after[1]["generation"] == "300"
    assert float(after[1]["return_mean"]) > float(before[0]["return_mean"])
    same = ("trial", "seed", "strategy.cma_es.sigma")
    assert [after[1][name] for name in same] == [before[1][name] for name in same]
    assert yaml.safe_load(Path("s/best.yaml").read_text())["strategy"]["cma_es"]["sigma"] == 1e-6
    assert best["strategy"]["cma_es"]["sigma"] == 0.5
    assert rank(read_sweep(tmp_path / "s"))[0].values == {"strategy.cma_es.sigma": 1e-6}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("swept", "hidden"),
    [({"policy.name": ["mlp", "linear"]}, [16]), ({"policy.name": ["linear", "gru"]}, None)],
)
def test_sweeping_a_name_drops_the_fields_of_the_other(swept, hidden, tmp_path):
    from jaxes.config.sweep import load

    config = {
        "environment": {"name": "brax", "env_name": "fast"},
        "policy": {"name": "mlp", "hidden": [16]},
        "strategy": {"name": "openai_es", "population_size": 4},
        "training": {"num_generations": 4},
        "sweep": {"grid": swept},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(config))
    groups = load(tmp_path / "s.yaml").groups
    policies = [group.trials[0].config["policy"] for group in groups]
    assert [policy["name"] for policy in policies] == swept["policy.name"]
    assert policies[0].get("hidden") == hidden


def test_episodes_are_capped_at_the_last_generation_s_mean():
    """Of episodes that last 10 steps, or 3 where they fall: tests are not cut."""

    def reset(key):
        return jnp.zeros(()), jnp.ones(1)

    def step(t, action):
        return t + 1, jnp.ones(1), 1.0, (t >= 2) & (action[0] < 0)

    falls = jaxes.Environment(reset, step, 1)
    problem = search(falls, episode_cap=1.5, normalize_observations=False, num_test_episodes=2)
    strategy = jaxes.openai_es(64, sigma=1.0, learning_rate=1e-30, weight_decay=0.0)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    step_fn = jax.jit(jaxes.make_update_step(strategy, problem))
    assert state.problem.mean_length == LENGTH
    lengths, cut = [], []
    for generation in range(4):
        key = jaxes.parallel.place(jax.random.key(generation))
        state, metrics = step_fn(key, state)
        lengths.append(float(metrics["rollout/episode_length"]))
        cut.append(int(metrics["rollout/truncated"]))
    # Half of the members fall: (10 + 3)/2 at first, then ⌈1.5 · 6.5⌉ = 10, no less than before.
    assert lengths[0] == pytest.approx(6.5)
    assert state.problem.mean_length == lengths[-1]
    assert cut == [32] * 4
    capped = jaxes.train(
        search(falls, episode_cap=1.0, num_test_episodes=2, normalize_observations=False),
        strategy,
        num_generations=3,
        mean=[0.0],
    )
    assert capped.episode_length == LENGTH  # of tests
    assert capped.env_steps == 64 * (6.5 + 5 + 4)  # halves of 10 and 3, 7 and 3, 5 and 3
    assert search(falls).hparams.episode_cap is None


def test_a_cap_is_a_number_that_can_be_swept():
    problem = search(episode_cap=2.0)
    sweep = jaxes.sweep(problem, STILL, {"episode_cap": [1.0, 3.0]}, num_generations=2)
    assert [result.values for result in sweep.results] == [
        {"episode_cap": 1.0},
        {"episode_cap": 3.0},
    ]
    for cap in (0.5, -1, float("nan"), "2"):
        with pytest.raises(ValueError, match="episode_cap must be at least 1"):
            search(episode_cap=cap)


@pytest.mark.parametrize("summed", ["distance", ("dist",), ["distance"], (1,)])
def test_what_is_summed_is_named(summed):
    with pytest.raises(ValueError, match="walker: summed must be"):
        search(walker(summed=summed))
