"""What users hold of a run: callbacks, statuses, the config of one made in Python, tests of it."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from worlds import point

import jaxes
from jaxes import cli
from jaxes.problems import functions


def rows_of(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_callback_sees_the_last_row_and_state_of_a_chunk_and_ends_the_run(tmp_path):
    seen = []

    def callback(row, state):
        seen.append((row["generation"], int(state.generation), float(state.strategy.mean[0])))
        return row["generation"] >= 20

    result = jaxes.train(
        functions.sphere(3),
        jaxes.cem(16),
        num_generations=1000,
        test_every=10,
        run_dir=tmp_path / "run",
        callback=callback,
    )
    assert result.status == "stopped"
    assert result.generation == seen[-1][0] == rows_of(tmp_path / "run")[-1]["generation"]
    assert 20 <= result.generation < 1000
    assert all(of_row == of_state for of_row, of_state, _ in seen)
    assert seen[-1][2] == float(result.state.strategy.mean[0])
    assert (tmp_path / "run" / "checkpoints" / str(result.generation)).is_dir()


def test_a_callback_that_fails_loses_nothing(tmp_path):
    def callback(row, state):
        raise RuntimeError("mine")

    settings = {"num_generations": 8, "test_every": 2, "run_dir": tmp_path / "run"}
    with pytest.raises(RuntimeError, match="mine"):
        jaxes.train(functions.sphere(3), jaxes.cem(16), callback=callback, **settings)
    last = rows_of(tmp_path / "run")[-1]["generation"]
    assert (tmp_path / "run" / "checkpoints" / str(last)).is_dir()
    result = jaxes.train(functions.sphere(3), jaxes.cem(16), resume=True, **settings)
    whole = jaxes.train(functions.sphere(3), jaxes.cem(16), **settings | {"run_dir": None})
    jax.tree.map(np.testing.assert_array_equal, result.state, whole.state)
    with pytest.raises(ValueError, match="callback must be a function or None, got 3"):
        jaxes.train(functions.sphere(3), jaxes.cem(16), num_generations=1, callback=3)


def test_a_callback_ends_one_trial_and_a_resumed_sweep_leaves_it_ended(tmp_path):
    """The other one goes on with the bits that it has without its neighbor's end."""
    arguments = (functions.sphere(3), jaxes.cem(16), {"sigma": [0.1, 1.0]})
    options = {"test_every": 2, "checkpoint_every": 4, "run_dir": tmp_path / "run"}
    kinds = set()

    def callback(row, state):
        kinds.add((int(state.generation), row["generation"], state.strategy.mean.shape))
        assert row["trial"] == int(state.strategy.hparams.sigma > 0.5)
        return bool(state.strategy.hparams.sigma < 0.5 and row["generation"] >= 4)

    first = jaxes.sweep(*arguments, num_generations=12, callback=callback, **options)
    assert [row.status for row in first.results] == ["stopped", "done"]
    stopped, other = first.results
    assert 4 <= stopped.generation < 12
    assert other.generation == 12
    assert all(a == b and shape == (3,) for a, b, shape in kinds)
    alone = jaxes.sweep(*arguments, num_generations=12)
    np.testing.assert_array_equal(other.state.strategy.mean, alone.results[1].state.strategy.mean)
    (tmp_path / "run" / "results.csv").unlink()
    again = jaxes.sweep(*arguments, num_generations=12, resume=True, **options)
    assert [row.status for row in again.results] == ["stopped", "done"]
    assert [row.generation for row in again.results] == [stopped.generation, 12]
    assert again.results[0].return_mean == stopped.return_mean
    # Without its mark it would be behind the others, and stays out all the same.
    (tmp_path / "run" / "trials" / "0000" / "stopped.json").unlink()
    longer = jaxes.sweep(*arguments, num_generations=16, resume=True, **options)
    assert [row.generation for row in longer.results] == [stopped.generation, 16]
    last = rows_of(tmp_path / "run" / "trials" / "0000")[-1]
    assert last["generation"] == stopped.generation


def test_a_stopped_run_stays_stopped_until_its_mark_is_deleted(tmp_path):
    arguments = {"num_generations": 12, "test_every": 2, "run_dir": tmp_path / "run"}
    problem, strategy = functions.sphere(3), jaxes.cem(16)
    first = jaxes.train(problem, strategy, callback=lambda row, state: True, **arguments)
    again = jaxes.train(problem, strategy, resume=True, **arguments)
    assert (first.status, first.generation) == (again.status, again.generation)
    assert first.return_mean == again.return_mean
    assert jaxes.evaluate(tmp_path / "run").status == "stopped"
    (tmp_path / "run" / "stopped.json").unlink()
    on = jaxes.train(problem, strategy, resume=True, **arguments)
    assert (on.status, on.generation) == ("done", 12)


def test_trials_that_all_stopped_do_not_go_on(tmp_path):
    arguments = (functions.sphere(3), jaxes.cem(16), {"sigma": [0.1, 1.0]})
    options = {"num_generations": 12, "test_every": 2, "run_dir": tmp_path / "run"}
    first = jaxes.sweep(*arguments, callback=lambda row, state: True, **options)
    again = jaxes.sweep(*arguments, resume=True, **options)
    for result in (first, again):
        assert [row.status for row in result.results] == ["stopped", "stopped"]
    mark = tmp_path / "run" / "trials" / "0001" / "stopped.json"
    mark.write_text("soon")
    with pytest.raises(ValueError, match=r"stopped.json is damaged: .* got 'soon'; delete it"):
        jaxes.sweep(*arguments, resume=True, **options)
    assert [row.generation for row in first.results] == [row.generation for row in again.results]


def test_halving_drops_no_trial_that_had_ended():
    """The better one is kept; the worse one was stopped before, and stays so."""
    result = jaxes.sweep(
        functions.sphere(3),
        jaxes.cem(16),
        {"sigma": [1e-3, 1.0]},
        num_generations=8,
        test_every=2,
        halving=jaxes.Halving((6,), keep=0.5),
        callback=lambda row, state: bool(state.strategy.hparams.sigma < 0.5),
    )
    assert [row.status for row in result.results] == ["stopped", "done"]


def test_a_run_from_python_has_the_config_that_the_command_line_takes(tmp_path, capsys):
    run_dir = tmp_path / "run"
    problem, strategy = functions.rosenbrock(4), jaxes.cma_es(8, sigma=0.3)
    first = jaxes.train(problem, strategy, num_generations=12, seed=3, run_dir=run_dir)
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["problem"] == {"name": "rosenbrock", "num_dims": 4}
    assert config["strategy"]["cma_es"]["sigma"] == 0.3
    assert config["training"]["seed"] == 3
    text = (run_dir / "config.yaml").read_text()
    (run_dir / "config.yaml").write_text(text.replace("num_generations: 12", "num_generations: 20"))
    assert cli.main(["resume", str(run_dir)]) == 0
    whole = jaxes.train(problem, strategy, num_generations=20, seed=3)
    assert jaxes.evaluate(run_dir).return_mean == whole.return_mean
    assert first.generation == 12
    # And back: the command line's run goes on from Python.
    jaxes.train(problem, strategy, num_generations=22, seed=3, run_dir=run_dir, resume=True)
    capsys.readouterr()


def test_what_a_config_cannot_say_has_none_and_is_evaluated_with_its_parts(tmp_path):
    problem = functions.function(lambda x: -(x[0] ** 2), lambda key: jax.numpy.ones(2))
    run_dir = tmp_path / "run"
    result = jaxes.train(problem, jaxes.cem(16), num_generations=3, run_dir=run_dir)
    assert not (run_dir / "config.yaml").exists()
    with pytest.raises(ValueError, match=r"run: .*no config.yaml"):
        jaxes.evaluate(run_dir)
    tested = jaxes.evaluate(run_dir, problem, jaxes.cem(16), num_episodes=3)
    assert tested.return_mean == result.return_mean
    assert tested.zero_policy_return == result.zero_policy_return == 0
    assert (tested.num_test_episodes, tested.generation, tested.seed) == (3, 3, 0)
    with pytest.raises(ValueError, match="num_episodes must be a whole number of at least 1"):
        jaxes.evaluate(run_dir, problem, jaxes.cem(16), num_episodes=0)


def test_runs_of_other_formats_are_refused_by_name(tmp_path):
    run_dir = tmp_path / "run"
    settings = {"num_generations": 2, "run_dir": run_dir}
    jaxes.train(functions.sphere(2), jaxes.cem(16), **settings)
    about = json.loads((run_dir / "run.json").read_text())
    assert about["format"] == 3
    newer = "the format 4, not 2 or 3: written by a newer jaxes"
    for known, message in [(4, newer), (None, "45933eb")]:
        changed = {name: value for name, value in about.items() if name != "format"}
        changed |= {} if known is None else {"format": known}
        (run_dir / "run.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            jaxes.train(functions.sphere(2), jaxes.cem(16), resume=True, **settings)
        with pytest.raises(ValueError, match=message):
            jaxes.evaluate(run_dir)


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_run_of_45933eb_is_refused_by_a_line_that_says_what_reads_it(command, tmp_path, capsys):
    run_dir = shutil.copytree(Path(__file__).parent / "run_of_45933eb", tmp_path / "run")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert cli.main([command, str(run_dir)]) == 2
    said = capsys.readouterr().err
    assert "has the format 1, not 2 or 3: written by jaxes before" in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_a_trial_is_not_resumed_while_its_sweep_runs(tmp_path):
    problem, run_dir, refused = functions.sphere(2), tmp_path / "run", []

    def callback(row, state):
        with pytest.raises(ValueError, match="in use by another process") as error:
            jaxes.train(
                problem,
                jaxes.cem(16),
                num_generations=4,
                run_dir=run_dir / "trials" / "0000",
                resume=True,
            )
        refused.append(error)

    jaxes.sweep(problem, jaxes.cem(16), num_generations=2, run_dir=run_dir, callback=callback)
    assert refused
    trial = run_dir / "trials" / "0000"
    jaxes.train(problem, jaxes.cem(16), num_generations=4, run_dir=trial, resume=True)


def test_another_strategy_is_named_before_its_numbers(tmp_path):
    settings = {"num_generations": 2, "run_dir": tmp_path / "run"}
    jaxes.train(functions.sphere(2), jaxes.cem(16), **settings)
    with pytest.raises(ValueError, match=r"strategy.name: the run in .* has 'cem', got 'snes'"):
        jaxes.train(functions.sphere(2), jaxes.snes(16), resume=True, **settings)


def test_the_episodes_of_an_environment_of_ones_own_are_those_of_its_run(tmp_path):
    def search(num_test_episodes):
        own = point()._replace(name="mine")
        options = {"episode_length": 4, "num_test_episodes": num_test_episodes}
        return jaxes.problems.policy_search(own, jaxes.policies.linear(), **options)

    settings = {"num_generations": 2, "run_dir": tmp_path / "run"}
    jaxes.train(search(2), jaxes.cem(16), **settings)
    with pytest.raises(ValueError, match=r"num_test_episodes: the run in .* has 2, got 3"):
        jaxes.train(search(3), jaxes.cem(16), resume=True, **settings)
    jaxes.train(search(2), jaxes.cem(16), resume=True, **settings)
