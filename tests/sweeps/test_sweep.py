"""Sweeps: trials are the runs that they would be alone, and nothing is lost on the way."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_runs import CONFIG, close, rows_of, run, table, write

import jaxes
from jaxes import cli
from jaxes.config import run as config
from jaxes.config import sweep as sweep_config
from jaxes.sweeps.sweep import run_sweep
from jaxes.training.checkpoint import Checkpoints, as_state
from jaxes.training.loop import Loop
from jaxes.training.program import Program
from jaxes.training.run import Run


@pytest.mark.parametrize("number", [3, 6])
def test_a_trial_is_the_run_of_its_config(finished, tmp_path, number):
    trial = finished / "trials" / f"{number:04d}"
    run("train", trial / "config.yaml", "--run-dir", tmp_path / "alone")
    for ours, alone in zip(rows_of(trial), rows_of(tmp_path / "alone"), strict=True):
        assert ours.keys() == alone.keys()
        # Values of a plain function are batched. Episodes are not: tests/test_trials.py has bits.
        close(list(ours.values()), list(alone.values()))
    problem, strategy, _ = config.load(trial / "config.yaml").build()
    template = jax.jit(lambda key: jaxes.init(key, strategy, problem))(jax.random.key(0))
    states = [
        as_state(12, Checkpoints(folder / "checkpoints", read_only=True).leaves(12), template)
        for folder in (trial, tmp_path / "alone")
    ]
    jax.tree.map(close, *states)


def test_a_trial_can_be_evaluated_and_resumed_alone(finished, tmp_path, capsys):
    trial = shutil.copytree(finished / "trials" / "0005", tmp_path / "trial")
    run("evaluate", trial)
    assert "at generation 12" in capsys.readouterr().out
    text = (trial / "config.yaml").read_text()
    assert "num_generations: 12" in text
    (trial / "config.yaml").write_text(text.replace("num_generations: 12", "num_generations: 14"))
    run("resume", trial)
    assert [row["generation"] for row in rows_of(trial)] == list(range(1, 15))


def test_a_killed_sweep_goes_on_where_it_was(finished, tmp_path, monkeypatch):
    written = []
    original = Run.write

    def dies(self, rows):
        original(self, rows)
        written.append(self.trial.index)
        if len(written) == 23:
            raise SystemExit

    monkeypatch.setattr(Run, "write", dies)
    arguments = ["sweep", write(tmp_path / "sweep.yaml"), "--run-dir", str(tmp_path / "cut")]
    with pytest.raises(SystemExit):
        cli.main(arguments)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "results.csv").exists()
    run("resume", tmp_path / "cut")
    for number in range(8):
        ours, theirs = (folder / f"trials/{number:04d}" for folder in (tmp_path / "cut", finished))
        assert rows_of(ours) == rows_of(theirs)
    clock = {"seconds": None}
    whole, cut = table(finished), table(tmp_path / "cut")
    assert [row | clock for row in cut] == [row | clock for row in whole]


def test_batches_change_nothing(finished, tmp_path):
    changed = CONFIG | {"sweep": CONFIG["sweep"] | {"max_bytes": 30_000}}
    plan = sweep_config.load(write(tmp_path / "sweep.yaml", **changed))
    result = run_sweep(plan.groups, plan.schedule, **plan.options)
    expected = [float(row["return_mean"]) for row in table(finished)]
    close([row.return_mean for row in result.results], expected)


def test_padded_batches_change_nothing_and_a_resumed_sweep_keeps_them(tmp_path, monkeypatch):
    """Five trials in batches of three, one of them padding; then with memory for all of them."""
    arguments = (jaxes.problems.functions.sphere(3), jaxes.openai_es(8, sigma=0.3))
    options = {"num_seeds": 5, "num_generations": 8, "test_every": 4, "checkpoint_every": 4}
    options |= {"run_dir": tmp_path / "run"}
    expected = jaxes.sweep(*arguments, **options | {"run_dir": None})
    drive, chunks = Loop.drive, []

    def dies_in_the_second_batch(self, batch, *arguments):
        chunks.append(batch.active.tolist())
        if len(chunks) == 2:
            raise SystemExit
        drive(self, batch, *arguments)

    num_bytes = iter([10, 5])
    monkeypatch.setattr(Program, "num_bytes", property(lambda program: next(num_bytes)))
    monkeypatch.setattr(Loop, "drive", dies_in_the_second_batch)
    with pytest.raises(SystemExit):
        jaxes.sweep(*arguments, **options, max_bytes=9)
    assert chunks == [[True] * 3, [True, True, False]]
    monkeypatch.undo()
    found = jaxes.sweep(*arguments, **options, resume=True)
    jax.tree.map(close, found.states, expected.states)
    for ours, theirs in zip(found.results, expected.results, strict=True):
        close(ours.return_mean, theirs.return_mean)
        assert (ours.trial, ours.seed, ours.generation) == (theirs.trial, theirs.seed, 8)


def test_what_decides_who_is_out_cannot_change_on_resume(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("test_every: 4", "test_every: 6"))
    assert cli.main(["resume", str(copy)]) == 2


def test_a_dry_run_leaves_nothing(tmp_path, capsys):
    path = write(tmp_path / "sweep.yaml")
    run("sweep", path, "--run-dir", tmp_path / "none", "--dry-run")
    said = " ".join(capsys.readouterr().out.split())
    assert "8 trials in 2 programs, because of strategy.name" in said
    assert "program 2 of 2: 4 trials, population 16" in said
    assert not (tmp_path / "none").exists()


def test_halving_drops_the_worst_configurations(tmp_path):
    changed = CONFIG | {
        "sweep": {
            "grid": {"strategy.cem.sigma": [0.01, 0.1, 1.0, 2.0]},
            "num_seeds": 2,
            "halving": {"generations": [3, 6], "keep": 0.5},
        }
    }
    run("sweep", write(tmp_path / "sweep.yaml", **changed), "--run-dir", tmp_path / "run")
    rows = table(tmp_path / "run")
    generations = [int(row["generation"]) for row in rows]
    assert sorted(generations) == [3] * 4 + [6] * 2 + [12] * 2
    assert [row["status"] == "dropped" for row in rows] == [g < 12 for g in generations]
    # As the runs would have been ranked alone: by the tests at the end of each rung.
    tests = np.array(
        [
            [row["test/return_mean"] for row in rows_of(tmp_path / f"run/trials/{i:04d}")[2:3]]
            for i in range(8)
        ]
    )
    kept = {i for i, g in enumerate(generations) if g > 3}
    scores = tests.reshape(4, 2).mean(axis=1)
    assert {i // 2 for i in kept} == set(np.argsort(-scores)[:2])


def test_a_target_ends_a_trial_and_not_the_others():
    result = jaxes.sweep(
        jaxes.problems.functions.sphere(3),
        jaxes.cem(32),
        {"sigma": [1e-6, 1.0]},
        num_generations=40,
        test_every=2,
        target_return=-1.0,
    )
    slow, fast = result.results
    assert (slow.status, slow.generation) == ("done", 40)
    assert fast.status == "target"
    assert fast.generation < 40
    assert fast.return_mean >= -1.0


def test_a_diverging_trial_is_marked_and_spoils_nothing():
    problem = jaxes.problems.functions.function(
        lambda x: jnp.where(jnp.abs(x).max() > 50, jnp.nan, -jnp.sum(x**2)),
        lambda key: jnp.full(3, 2.0),
    )
    whole = jaxes.sweep(problem, jaxes.cem(16), {"sigma": [0.1, 1e6]}, num_generations=5)
    alone = jaxes.sweep(problem, jaxes.cem(16), {"sigma": [0.1]}, num_generations=5)
    assert [row.status for row in whole.results] == ["done", "diverged"]
    np.testing.assert_allclose(
        whole.results[0].return_mean, alone.results[0].return_mean, rtol=1e-5
    )


@pytest.fixture(scope="module")
def alone():
    """Runs of two values and two seeds."""
    problem = jaxes.problems.functions.rosenbrock(4)
    return [
        jaxes.train(problem, jaxes.cma_es(8, sigma=sigma), num_generations=15, seed=seed)
        for sigma in (0.1, 0.5)
        for seed in (7, 8)
    ]


@pytest.mark.parametrize("exact", [True, False])
def test_a_sweep_from_python_is_train_many_times(exact, alone):
    result = jaxes.sweep(
        jaxes.problems.functions.rosenbrock(4),
        jaxes.cma_es(8),
        [{"sigma": 0.1}, {"sigma": 0.5}],
        num_seeds=2,
        seed=7,
        num_generations=15,
        exact=exact,
    )
    for i, run_alone in enumerate(alone):
        ours = jax.tree.map(lambda leaf: leaf[i], result.states[0])  # noqa: B023
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(run_alone.state), strict=True):
            np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-5)
    returns = [run_alone.return_mean for run_alone in alone]
    np.testing.assert_allclose([row.return_mean for row in result.results], returns, rtol=1e-3)


@pytest.mark.parametrize("name", ["results.csv", "best.yaml", "trials"])
def test_files_that_lie_there_are_kept(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} exists already"):
        jaxes.sweep(
            jaxes.problems.functions.sphere(2), jaxes.cem(16), num_generations=1, run_dir=tmp_path
        )
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("hparams", "options", "message"),
    [
        ({"sgma": [1.0]}, {}, "'sgma' must be one of strategy.sigma"),
        ({"sigma": []}, {}, r"hparams\['sigma'\] must be a list of at least one"),
        ({"sigma": [1.0, 1.0]}, {}, r"hparams\['sigma'\] must be without repetitions"),
        ([{"sigma": 1.0}] * 2, {}, "hparams must be without repetitions"),
        ({"sigma": [1.0]}, {"max_bytes": 1}, "max_bytes must be at least [0-9]+, which one trial"),
        ({"sigma": [1.0, "a"]}, {}, r"hparams\['sigma'\] must be a finite number, got 'a'"),
        ({"sigma": [1.0, np.nan]}, {}, r"hparams\['sigma'\] must be a finite number, got nan"),
        ({"sigma": [1.0], "strategy.sigma": [2.0]}, {}, r"\['strategy.sigma'\] must be given once"),
        (3, {}, "hparams must be lists by name"),
        ({"sigma": [1.0]}, {"seed": 2**32 - 1, "num_seeds": 2}, "seed . num_seeds - 1 must be"),
        ({"sigma": [1.0, 2.0]}, {"halving": jaxes.Halving(2)}, "halving must be a Halving of a t"),
        ([], {}, "hparams must be lists by name"),
        ({"sigma": [1.0]}, {"halving": jaxes.Halving((2,))}, "of at least 2 configurations"),
        ({"sigma": [1.0, 2.0]}, {"halving": jaxes.Halving((5,))}, "halving.generations must be"),
        ({"sigma": [1.0, 2.0]}, {"halving": jaxes.Halving((2,), 1.0)}, "keep must be less than 1"),
        ({"sigma": [1.0]}, {"num_seeds": 0}, "num_seeds must be"),
    ],
)
def test_bad_arguments_are_refused(hparams, options, message):
    with pytest.raises(ValueError, match=message):
        jaxes.sweep(
            jaxes.problems.functions.sphere(2),
            jaxes.cem(16),
            hparams,
            **{"num_generations": 5} | options,
        )


def test_a_sweep_is_no_run_and_another_sweep_is_refused(finished, tmp_path, capsys):
    assert cli.main(["train", write(tmp_path / "sweep.yaml")]) == 2
    assert "run it with `jaxes sweep`" in capsys.readouterr().err
    assert cli.main(["sweep", write(tmp_path / "sweep.yaml"), "--run-dir", str(finished)]) == 2
    assert "already holds a run" in capsys.readouterr().err
