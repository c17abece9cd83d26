"""Runs: cut, resumed, refused. The bits must not depend on what surrounds the update step."""

import json
import logging
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.problems import functions
from jaxes.training import batch
from jaxes.training import directory as run_dirs


@pytest.fixture
def strategy():
    return jaxes.cma_es(8)


@pytest.fixture
def problem():
    return functions.rosenbrock(5)


def rows_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def test_a_resumed_run_equals_the_uninterrupted_one(strategy, problem, tmp_path):
    settings = {"seed": 3, "test_every": 7, "checkpoint_every": 10}
    whole = jaxes.train(
        problem, strategy, num_generations=60, run_dir=tmp_path / "whole", **settings
    )
    jaxes.train(problem, strategy, num_generations=36, run_dir=tmp_path / "cut", **settings)
    cut = jaxes.train(
        problem, strategy, num_generations=60, run_dir=tmp_path / "cut", resume=True, **settings
    )
    chex.assert_trees_all_equal(cut.state, whole.state)
    assert cut.return_mean == whole.return_mean
    rows = without_times(rows_of(tmp_path / "cut"))
    for name in ("return_mean", "return_std", "diverged"):  # the first part ended with a test
        del rows[35][f"test/{name}"]
    assert rows == without_times(rows_of(tmp_path / "whole"))
    assert [row["generation"] for row in rows] == list(range(1, 61))


def test_training_equals_the_scan_of_core(strategy, problem):
    result = jaxes.train(problem, strategy, num_generations=30, seed=5)
    init_key, run_key = jax.random.split(jax.random.key(5))
    state = jax.jit(lambda key: jaxes.init(key, strategy, problem))(init_key)
    step = jaxes.make_update_step(strategy, problem)
    state, _ = jax.jit(jaxes.run, static_argnums=(0, 3))(step, run_key, state, 30)
    chex.assert_trees_all_close(result.state, state, rtol=1e-4)


@pytest.mark.parametrize("checkpoint_every", [3, 1000])
@pytest.mark.parametrize("test_every", [4, 1000])
def test_the_bits_do_not_depend_on_tests_and_checkpoints(
    strategy, problem, tmp_path, checkpoint_every, test_every
):
    plain = jaxes.train(problem, strategy, num_generations=25)
    other = jaxes.train(
        problem,
        strategy,
        num_generations=25,
        run_dir=tmp_path / "run",
        checkpoint_every=checkpoint_every,
        test_every=test_every,
    )
    chex.assert_trees_all_equal(plain.state, other.state)


def test_the_update_step_is_traced_and_compiled_once(strategy, problem, tmp_path, caplog):
    traces = []

    def evaluate(*arguments):
        traces.append(1)
        return problem.evaluate(*arguments)

    counted = problem._replace(evaluate=evaluate)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jaxes.train(counted, strategy, num_generations=23, test_every=10, run_dir=tmp_path / "run")
    assert len(traces) == 1
    compiled = [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.msg]
    assert sum("jit(chunk)" in message for message in compiled) == 1
    assert not any("update_step" in message for message in compiled)


def test_one_transfer_a_chunk(strategy, problem, monkeypatch):
    transfers, chunks = [], []
    device_get, write = jax.device_get, batch.make_rows
    monkeypatch.setattr(jax, "device_get", lambda tree: transfers.append(1) or device_get(tree))
    monkeypatch.setattr(
        batch, "make_rows", lambda *arguments: chunks.append(1) or write(*arguments)
    )
    jaxes.train(problem, strategy, num_generations=50, test_every=10)
    assert len(chunks) >= 5
    assert len(transfers) == len(chunks) + 2  # the final test, and the zero policy's


def test_stops_at_the_target(strategy):
    problem = functions.rosenbrock(3)  # from 4 dimensions on it has a second optimum
    result = jaxes.train(
        problem, strategy, num_generations=5000, test_every=10, target_return=-1e-3
    )
    assert result.return_mean >= -1e-3
    assert result.generation < 5000
    assert result.generation % 10 == 0


def test_a_run_that_reached_its_target_is_over(strategy, tmp_path):
    problem = functions.rosenbrock(3)
    settings = {"num_generations": 5000, "target_return": -1e-3, "run_dir": tmp_path / "run"}
    first = jaxes.train(problem, strategy, **settings)
    again = jaxes.train(problem, strategy, resume=True, **settings)
    chex.assert_trees_all_equal(first.state, again.state)
    assert again.return_mean == first.return_mean


def test_the_zero_policy_is_that_of_zero_parameters(strategy, problem):
    result = jaxes.train(problem, strategy, num_generations=1)
    np.testing.assert_allclose(
        result.zero_policy_return,
        -sum(
            100 * (z[1] - z[0] ** 2) ** 2 + (1 - z[0]) ** 2
            for z in zip(
                1 - np.asarray(functions.optimum(5))[:-1],
                1 - np.asarray(functions.optimum(5))[1:],
                strict=True,
            )
        ),
        rtol=1e-4,
    )


def test_a_run_is_never_replaced(strategy, problem, tmp_path):
    run_dir, problem = tmp_path / "run", problem._replace(spec=None)  # nor does a config tell
    other_size = functions.sphere(6)._replace(spec=None)
    jaxes.train(problem, strategy, num_generations=3, run_dir=run_dir)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"run_dir: .* already holds a run"):
        jaxes.train(problem, strategy, num_generations=3, run_dir=run_dir)
    with pytest.raises(ValueError, match=r"seed: the run in .* has 0, got 1"):
        jaxes.train(problem, strategy, num_generations=3, run_dir=run_dir, resume=True, seed=1)
    for other, message in [
        (
            jaxes.cma_es(8, sigma=0.1),
            r"strategy.sigma: the run in .* has 0.5, got 0.1",
        ),
        (jaxes.cma_es(9), "population_size: the run in .* has 8, got 9"),
        (jaxes.nes(8, sigma=0.5), "strategy.* the run in"),
    ]:
        with pytest.raises(ValueError, match=message):
            jaxes.train(problem, other, num_generations=3, run_dir=run_dir, resume=True)
    with pytest.raises(
        ValueError, match=r"\.strategy\.mean was saved as float32\[5\], .* need float32\[6\]"
    ):
        jaxes.train(other_size, strategy, num_generations=3, run_dir=run_dir, resume=True)
    after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert after == before


def test_two_processes_do_not_share_a_run(strategy, problem, tmp_path):
    with (
        run_dirs.open_run_dir(tmp_path / "run", {}, resume=False, config=None),
        pytest.raises(ValueError, match="in use by another process"),
    ):
        jaxes.train(problem, strategy, num_generations=1, run_dir=tmp_path / "run", resume=True)


def test_a_torn_line_is_completed(strategy, problem, tmp_path):
    run_dir = tmp_path / "run"
    jaxes.train(problem, strategy, num_generations=10, run_dir=run_dir, checkpoint_every=4)
    metrics = run_dir / "metrics.jsonl"
    whole = without_times(rows_of(run_dir))
    metrics.write_bytes(metrics.read_bytes()[:-30])
    shutil.rmtree(run_dir / "checkpoints" / "10")
    jaxes.train(
        problem, strategy, num_generations=10, run_dir=run_dir, checkpoint_every=4, resume=True
    )
    assert without_times(rows_of(run_dir)) == whole


def test_nothing_is_known_of_an_all_nan_generation(strategy, tmp_path):
    problem = jaxes.problems.function(lambda x: jnp.nan * x[0], lambda key: jnp.zeros(3))
    result = jaxes.train(problem, strategy, num_generations=3, run_dir=tmp_path / "run")
    np.testing.assert_array_equal(result.state.strategy.mean, 0)
    row = rows_of(tmp_path / "run")[-1]
    assert row["fitness/non_finite"] == 8
    assert row["fitness/mean"] is None  # JSON has no NaN


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_generations": 0}, "num_generations must be a whole number of at least 1, got 0"),
        ({"num_generations": 2.5}, "num_generations must be a whole number"),
        ({"num_generations": 1, "seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"num_generations": 1, "seed": 2**32}, "seed must be .* at most 4294967295"),
        (
            {"num_generations": 1, "loggers": ("tensorboard",)},
            "loggers must be empty without a run_dir",
        ),
        ({"num_generations": 1, "test_every": 0}, "test_every must be"),
        ({"num_generations": 1, "loggers": ("wandb",)}, "'wandb' needs the package wandb"),
        ({"num_generations": 1, "loggers": ("mlflow",)}, "loggers must be of tensorboard, wandb"),
    ],
)
def test_bad_settings_are_refused(strategy, problem, settings, message):
    with pytest.raises(ValueError, match=message):
        jaxes.train(problem, strategy, **settings)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("how", [jaxes.train, jaxes.sweep])
def test_a_problem_that_fails_when_it_is_traced_leaves_nothing(how, exists, problem, tmp_path):
    def evaluate(*arguments, **named):
        return problem.evaluate(*arguments, **named)._replace(tests=None)

    run_dir = tmp_path / "some" / "run"
    if exists:
        run_dir.mkdir(parents=True)
        (run_dir / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="problem must be one whose Evaluation has `tests`"):
        how(
            problem._replace(evaluate=evaluate),
            jaxes.cma_es(6),
            num_generations=1,
            run_dir=run_dir,
        )
    assert sorted(tmp_path.rglob("*")) == before
