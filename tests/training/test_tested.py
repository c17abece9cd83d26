"""Tests told apart by name: which of them count, what is told of the others, and where."""

import json
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_runs import rows_of, run, table

import jaxes
from jaxes.report.curves import curve_of
from jaxes.report.pictures import pictures
from jaxes.report.runs import read, told_by_name
from jaxes.report.tables import named_tests, rank, ranking
from jaxes.report.watch import Watched
from jaxes.training.display import describe_names
from jaxes.training.tested import across_tasks, by_name, row_of, score_of, summarize, told_in

NAN = math.nan
# Student's t of 95 %, by degrees of freedom
T = {1: 12.706204736, 2: 4.302652730, 3: 3.182446305}


def episodes(*returns, diverged=(), length=5, **measures):
    """Episodes that got these returns, of which some `diverged`, by their places."""
    count = len(returns)
    return jaxes.Tests(
        np.float32(returns),
        np.full(count, length, np.int32),
        np.isin(np.arange(count), diverged),
        np.zeros(count, bool),
        {name: np.float32(values) for name, values in measures.items()} or None,
    )


TASKS = {
    "flat": episodes(1, 2, 3),
    "flat/randomized": episodes(0, 1),
    "trap": episodes(10, distance=[4]),
    "trap/held_out": episodes(-3, 99, diverged=[1], distance=[2, 50]),
    "trap/randomized": episodes(5, 6, 6, 6, distance=[1, 1, 1, 5]),
}


def test_all_tasks_count_by_their_episodes_and_are_told_apart():
    row = row_of(TASKS)
    by_hand = {
        "test/return_mean": 4,  # of 1, 2, 3, 10, not of the means 2 and 10
        "test/return_std": math.sqrt(12.5),
        "test/return_ci95": NAN,  # of the trap there is one episode
        "test/diverged": 0,
        "test/truncated": 0,
        "test/episode_length": 5,
        "test/distance": 4,  # of the trap, which alone has it
        "test/worst_task": 2,
        "test/task_spread": 8,
        "test/flat/return_mean": 2,
        "test/flat/return_ci95": T[2] / math.sqrt(3),
        "test/flat/diverged": 0,
        "test/flat/randomized/return_mean": 0.5,
        "test/flat/randomized/return_ci95": T[1] * 0.5,
        "test/flat/randomized/diverged": 0,
        "test/trap/return_mean": 10,
        "test/trap/return_ci95": NAN,
        "test/trap/diverged": 0,
        "test/trap/distance": 4,
        "test/trap/held_out/return_mean": -3,
        "test/trap/held_out/return_ci95": NAN,
        "test/trap/held_out/diverged": 1,
        "test/trap/held_out/distance": 2,
        "test/trap/randomized/return_mean": 5.75,
        "test/trap/randomized/return_ci95": T[3] * 0.5 / 2,
        "test/trap/randomized/diverged": 0,
        "test/trap/randomized/distance": 2,
        "test/randomized/return_mean": 4,
        # Of the tasks' own standard errors, 0.5 and 0.25, by their shares: both are 1/6, so that
        # 4 / (1 / 1 + 1 / 3) degrees of freedom are 3.
        "test/randomized/return_ci95": T[3] * math.hypot(0.5 * 2 / 6, 0.25 * 4 / 6),
        "test/randomized/diverged": 0,
        "test/randomized/distance": 2,
        "test/held_out/return_mean": -3,
        "test/held_out/return_ci95": NAN,
        "test/held_out/diverged": 1,
        "test/held_out/distance": 2,
    }
    assert row.keys() == by_hand.keys()
    for name, value in by_hand.items():
        np.testing.assert_allclose(row[name], value, rtol=1e-6, err_msg=name)
    assert score_of(row) == 4
    assert score_of(row, "trap/held_out") == -math.inf
    assert summarize(TASKS)["num_test_episodes"] == 4
    assert by_name(TASKS)["held_out"]["num_test_diverged"] == 1


def test_one_environment_tells_its_base_once():
    base, drawn = episodes(1, 3, way=[1, 2]), episodes(7, way=[9])
    row = row_of({"base": base, "held_out": drawn})
    assert {name for name in row if "held_out" in name} == {
        f"test/held_out/{field}" for field in ("return_mean", "return_ci95", "diverged", "way")
    }
    same = {name: value for name, value in row.items() if "held_out" not in name}
    assert same == row_of(base) == row_of({"base": base})
    assert summarize({"base": base, "held_out": drawn}) == summarize(base)
    assert by_name({"base": base}) == by_name(base) == {}


def test_a_task_that_diverges_has_no_mean_and_the_whole_no_score():
    lost = TASKS | {"trap": episodes(10, diverged=[0], distance=[4])}
    row = row_of(lost)
    assert (row["test/return_mean"], row["test/diverged"]) == (2, 1)
    assert score_of(row) == -math.inf
    assert score_of(row, "flat") == 2
    for name in ("trap/return_mean", "worst_task", "task_spread", "distance"):
        assert math.isnan(row[f"test/{name}"])
    assert math.isnan(
        across_tasks({"a": {"return_mean": None}, "b": {"return_mean": 1}})["worst_task"]
    )


def test_being_alive_is_a_share_of_the_returns_of_those_that_tell_it():
    tasks = {"a": episodes(100), "b": episodes(4, 8, alive_reward=[1, 2])}
    assert row_of(tasks)["test/alive_share"] == pytest.approx(1.5 / 6)


def test_a_line_a_name_is_said():
    said = describe_names(by_name(TASKS)).splitlines()
    assert said[0] == "flat: return 2 ± 2.484 (95 %)"
    assert "trap: return 10" in said
    assert "trap/held_out: return -3; 1 DIVERGED" in said


def test_a_row_is_read_as_it_was_told():
    told = told_in(row_of(TASKS) | {"generation": 3, "return/flat": 1.0})
    names = ["", *TASKS, "randomized", "held_out"]
    by_hand = pytest.approx(T[2] / math.sqrt(3))
    assert sorted(told) == sorted(names)
    assert told["flat"] == {"return_mean": 2, "return_ci95": by_hand, "diverged": 0}
    assert told[""]["worst_task"] == 2
    assert told_in({"generation": 3}) == {}


def test_the_rows_and_results_of_a_plain_problem_are_those_they_were():
    result = jaxes.train(jaxes.problems.functions.sphere(3), jaxes.snes(8), num_generations=1)
    assert result.tests == {}
    counts = {"test/return_mean", "test/return_std", "test/diverged"}
    played = {"test/return_ci95", "test/truncated", "test/episode_length"}
    assert row_of(episodes(1, 2, length=0)).keys() == counts
    assert row_of(episodes(1, 2)).keys() == counts | played
    assert row_of(episodes(1, 2, way=[1, 1])).keys() == counts | played | {"test/way"}


class NoNumbers(NamedTuple):
    """Nothing can be swept but the strategy's."""


def returns_of(mean):
    """In the tests of each name, from the policy's parameters [2]: what is drawn likes it the less
    the better it is in the base systems."""
    flat, trap = -((mean[0] - 1) ** 2), -2 * (mean[1] + 1) ** 2
    return {
        "flat": flat + jnp.arange(3.0),
        "flat/randomized": -flat + jnp.arange(2.0),
        "trap": trap + jnp.zeros(2),
        "trap/held_out": -trap + jnp.arange(4.0),
    }


def two_tasks():
    def evaluate(key, population, state, phase=0):
        found = jax.vmap(returns_of)(population())
        flat, trap = found["flat"].mean(axis=1), found["trap"].mean(axis=1)
        metrics = {"return/flat": flat.mean(), "return/trap": trap.mean()}
        metrics |= {"return/mean": (flat + trap).mean() / 2}
        metrics |= {"return/worst_task": jnp.minimum(flat.mean(), trap.mean())}
        tests = {}
        for name, returns in returns_of(population.mean).items():
            no = jnp.zeros(returns.shape, bool)
            way = {"way": returns + 10} if name == "trap" else None
            tests[name] = jaxes.Tests(returns, jnp.full(returns.shape, 7), no, no, way)
        return jaxes.Evaluation(flat + trap, state, metrics, tests)

    return jaxes.Problem(
        init=lambda key, hparams=None: (),
        evaluate=evaluate,
        initial_mean=lambda key: jnp.zeros(2),
        hparams=NoNumbers(),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two tasks, its directory, its problem and its strategy."""
    path, parts = tmp_path_factory.mktemp("told") / "run", (two_tasks(), jaxes.cem(16, sigma=0.5))
    return jaxes.train(*parts, num_generations=6, test_every=2, run_dir=path), path, parts


def means_of(result):
    found = returns_of(np.asarray(result.state.strategy.mean))
    return {name: float(np.mean(returns)) for name, returns in found.items()}


def test_a_result_is_that_of_the_base_systems_and_tells_of_all(trained):
    result, path, _ = trained
    means = means_of(result)
    pooled = (3 * means["flat"] + 2 * means["trap"]) / 5
    np.testing.assert_allclose([result.return_mean, result.score], pooled, rtol=1e-5)
    assert result.measures == {"way": pytest.approx(means["trap"] + 10, rel=1e-5)}
    means |= {"randomized": means["flat/randomized"], "held_out": means["trap/held_out"]}
    told = {name: said["return_mean"] for name, said in result.tests.items()}
    assert told == pytest.approx(means, rel=1e-5)
    zero = returns_of(np.zeros(2))
    base = np.concatenate([zero["flat"], zero["trap"]])
    assert result.zero_policy_return == pytest.approx(base.mean())
    written = json.loads((path / "run.json").read_text())["result"]["tests"]
    assert written["trap"]["num_test_episodes"] == 2
    last = rows_of(path)[-1]
    assert last["test/worst_task"] == pytest.approx(min(means["flat"], means["trap"]), rel=1e-5)


def test_a_resumed_run_has_the_same_rows(trained, tmp_path):
    result, path, parts = trained
    jaxes.train(*parts, num_generations=2, test_every=2, run_dir=tmp_path / "run")
    again = jaxes.train(
        *parts, num_generations=6, test_every=2, run_dir=tmp_path / "run", resume=True
    )
    assert rows_of(tmp_path / "run") == rows_of(path)
    assert again.tests == result.tests


def test_more_episodes_are_as_many_of_each_name(trained):
    result, path, parts = trained
    tested = jaxes.evaluate(path, *parts, num_episodes=5)
    counts = {name: said["num_test_episodes"] for name, said in tested.tests.items()}
    assert counts == dict.fromkeys(result.tests, 5)
    assert tested.num_test_episodes == 10
    flat, trap = means_of(result)["flat"], means_of(result)["trap"]
    found = tested.tests["flat"]["return_mean"], tested.tests["trap"]["return_mean"]
    # Three rounds of 0, 1, 2 added, cut at five episodes: 0.8 is their mean.
    assert found == pytest.approx((flat - 1 + 0.8, trap), rel=1e-5)


def test_a_sweep_halves_and_ends_by_the_base_systems(tmp_path):
    """A strategy that cannot move is the best in what is drawn."""
    options = {"num_generations": 8, "test_every": 4, "run_dir": tmp_path / "sweep"}
    grid = {"sigma": [1e-6, 0.7]}
    result = jaxes.sweep(
        two_tasks(), jaxes.cem(16), grid, halving=jaxes.Halving((4,)), target_return=0.2, **options
    )
    still, moved = result.results
    assert (still.status, still.generation) == ("dropped", 4)
    assert result.best is moved
    drawn = [each.tests["held_out"]["return_mean"] for each in (still, moved)]
    assert drawn[0] > drawn[1]
    assert (moved.status, moved.generation) == ("target", 4)
    for row, each in zip(table(tmp_path / "sweep"), (still, moved), strict=True):
        tasks = [each.tests[name]["return_mean"] for name in ("flat", "trap")]
        assert float(row["test/worst_task"]) == min(tasks)
        assert "tests" not in row
        assert float(row["test/trap/return_mean"]) == tasks[1]
    sweep = read([tmp_path / "sweep"])
    columns = {column.name: column.cells for column in ranking(sweep, rank(sweep))}
    assert "worst_task" in columns
    assert "worst task" in [column.name for column in Watched(tmp_path / "sweep").look().trials]


def test_reports_draw_and_list_each_name(trained):
    result, path, _ = trained
    sweep = read([path])
    returns, names = pictures(sweep, rank(sweep))
    shown = ["all tasks", "flat", "flat/randomized", "trap", "trap/held_out"]
    assert [entry.name for entry in names.legend] == [*shown, "randomized", "held_out"]
    assert returns.legend[0].name == "mean policy"
    rows = rows_of(path)
    curve = curve_of([rows], "test/trap/held_out/return_mean", "generation")
    told = [row for row in rows if "test/return_mean" in row]
    np.testing.assert_array_equal(curve.x, [2, 4, 6])
    middle = [row["test/trap/held_out/return_mean"] for row in told]
    np.testing.assert_array_equal(curve.middle, middle)
    halves = [row["test/trap/held_out/return_ci95"] for row in told]
    np.testing.assert_allclose(curve.high - curve.low, 2 * np.array(halves))
    columns = {column.name: column.cells for column in named_tests(told_by_name(path))}
    assert columns["tests"] == [entry.name for entry in names.legend]
    assert columns["return ± 95 %"][3] == f"{result.tests['trap']['return_mean']:.4g} ± 0"
    assert columns["way"] == [columns["way"][3] if x in (0, 3) else "-" for x in range(7)]
    run("report", path, "--no-films")
    page = (path / "report.html").read_text()
    assert "<h2>Tests by name</h2>" in page
    assert Watched(path).look().told["worst task"] == f"{told[-1]['test/worst_task']:.4g}"
