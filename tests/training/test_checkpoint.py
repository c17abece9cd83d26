"""Checkpoints: what a state may hold, which stay, and what is done about damage."""

import errno
import json
import random
import shutil
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.core import TRAIN
from jaxes.problems.functions import sphere
from jaxes.training import identity, manifest
from jaxes.training.checkpoint import Checkpoints
from jaxes.training.verify import verify


class HParams(NamedTuple):
    pass


class Nested(NamedTuple):
    keys: jax.Array
    nothing: jax.Array
    count: jax.Array


def drawing(make_state, key_of):
    """A problem whose noise comes from a key in its own state."""

    def init(key, hparams=None):
        return make_state(key)

    def evaluate(key, population, state, phase=TRAIN):
        own = key_of(state)
        noise = jax.random.normal(own.reshape(-1)[0], (population.size,))
        new = jax.tree.map(
            lambda leaf: (
                jax.vmap(lambda k: jax.random.fold_in(k, 1))(leaf.reshape(-1)).reshape(leaf.shape)
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                else leaf
            ),
            state,
        )
        new = jax.tree.map(lambda a, b: jnp.where(phase == TRAIN, a, b), new, state)
        fitness = -jnp.sum((population() - 1) ** 2, axis=1) + 0.1 * noise
        value = -jnp.sum((population.mean - 1) ** 2)[None]
        no = jnp.zeros(1, bool)
        tests = jaxes.Tests(value, jnp.ones(1, jnp.int32), no, no)
        return jaxes.Evaluation(fitness, new, {}, tests)

    return jaxes.Problem(init, evaluate, lambda key: jnp.zeros(3), HParams())


PROBLEMS = {
    "a key": drawing(lambda key: key, lambda state: state),
    "keys and nothing": drawing(
        lambda key: {"a": Nested(jax.random.split(key, (2, 3)), jnp.zeros((0, 3)), jnp.int32(7))},
        lambda state: state["a"].keys,
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_a_state_of_keys_is_saved_and_resumed(problem, tmp_path):
    strategy, options = jaxes.cma_es(8), {"run_dir": tmp_path / "run"}
    jaxes.train(problem, strategy, num_generations=4, **options)
    resumed = jaxes.train(problem, strategy, num_generations=9, resume=True, **options)
    whole = jaxes.train(problem, strategy, num_generations=9)
    for ours, theirs in zip(
        jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True
    ):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)
    tested = jaxes.evaluate(tmp_path / "run", problem, strategy, num_episodes=2)
    assert tested.return_mean == whole.return_mean


def train(run_dir, num_generations, **options):
    options = {"checkpoint_every": 2, "test_every": 100} | options
    return jaxes.train(
        sphere(3), jaxes.cma_es(8), num_generations=num_generations, run_dir=run_dir, **options
    )


def saved(run_dir):
    return sorted(int(path.name) for path in (run_dir / "checkpoints").iterdir())


def assert_same_state(run_dir, generation, other):
    ours, theirs = (
        Checkpoints(path / "checkpoints", read_only=True).leaves(generation)
        for path in (run_dir, other)
    )
    assert_same(ours, theirs)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of nine generations, all its checkpoints kept."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    train(run_dir, 9, keep_checkpoints="all")
    return run_dir


@pytest.mark.parametrize(("keep", "left"), [("all", [2, 4, 6, 8, 9]), (1, [9]), (3, [6, 8, 9])])
def test_as_many_stay_as_asked_for(keep, left, tmp_path):
    train(tmp_path / "run", 9, keep_checkpoints=keep)
    assert saved(tmp_path / "run") == left


def test_the_best_stays_and_is_found_again(tmp_path):
    """A search that is sent away from the optimum: the best test is an early one."""
    problem = sphere(3)

    def leaving(key, population, state, phase=TRAIN):
        found = problem.evaluate(key, population, state, phase)
        return found._replace(fitness=-found.fitness)

    run_dir, leaving = tmp_path / "run", problem._replace(evaluate=leaving)
    options = {"num_generations": 9, "run_dir": run_dir, "checkpoint_every": 2, "test_every": 100}
    jaxes.train(leaving, jaxes.cma_es(8), **options)
    assert saved(run_dir) == [2, 8, 9]
    options["num_generations"] = 13
    jaxes.train(leaving, jaxes.cma_es(8), resume=True, **options)
    assert saved(run_dir) == [2, 12, 13]
    best = jaxes.evaluate(run_dir, leaving, jaxes.cma_es(8), num_episodes=1, checkpoint="best")
    assert best.generation == 2


def damages(rng):
    """Ways in which a file comes to harm, `(path, another) -> None`."""

    def flip(path, other):
        content = bytearray(path.read_bytes())
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return {
        "flipped": flip,
        "cut": lambda path, other: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "empty": lambda path, other: path.write_bytes(b""),
        "zeroed": lambda path, other: path.write_bytes(bytes(path.stat().st_size)),
        "deleted": lambda path, other: path.unlink(),
        "another's": lambda path, other: shutil.copy(other, path),
    }


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def read(checkpoints, generation):
    """What a checkpoint says, or the line that says that it is damaged."""
    try:
        return checkpoints.leaves(generation), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("damage", damages(random))
def test_damage_is_noticed_or_harmless(damage, whole, tmp_path):
    true = Checkpoints(whole / "checkpoints", read_only=True)
    expected, before = true.leaves(9), true.leaves(8)
    harm = damages(random.Random(damage))[damage]
    others = files_of(whole / "checkpoints" / "8")
    noticed = 0
    for number, path in enumerate(files_of(whole / "checkpoints" / "9")):
        directory = tmp_path / str(number)
        shutil.copytree(whole / "checkpoints", directory)
        harm(directory / path.relative_to(whole / "checkpoints"), others[number % len(others)])
        checkpoints = Checkpoints(directory, read_only=True)
        leaves, said = read(checkpoints, 9)
        if said is None:
            assert_same(leaves, expected)
            continue
        noticed += 1
        assert f"checkpoint {directory / '9'} is damaged" in said
        assert "\n" not in said
        with pytest.warns(UserWarning, match="that of 8 is taken instead"):
            generation, leaves = checkpoints.newest()
        assert generation == 8
        assert_same(leaves, before)
    assert noticed >= 3


def test_a_resume_from_an_earlier_checkpoint_ends_in_the_same_bits(whole, tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, 7, keep_checkpoints="all")
    for generation in (6, 7):
        (run_dir / "checkpoints" / str(generation) / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="that of 4 is taken instead") as told:
        train(run_dir, 9, resume=True, keep_checkpoints="all")
    assert len(told) == 2
    names = {path.name for path in (run_dir / "checkpoints").iterdir()}
    assert names == {"2", "4", "6", "8", "9", "6.damaged", "7.damaged"}
    for generation in (6, 8, 9):
        assert_same_state(run_dir, generation, whole)
    assert set(verify(run_dir).values()) == {None}


def test_where_no_checkpoint_is_whole_nothing_is_touched(tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, 4)
    for path in run_dir.glob("checkpoints/*/manifest.json"):
        path.write_text("[]")
    before = {path: path.read_bytes() for path in run_dir.rglob("checkpoints/**/*.json")}
    with pytest.raises(ValueError, match="no checkpoint is left to go on from") as error:
        train(run_dir, 9, resume=True)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in run_dir.rglob("checkpoints/**/*.json")} == before


def test_a_run_of_format_2_goes_on(whole, tmp_path):
    """As it was before there were manifests: orbax's manager marked its checkpoints."""
    run_dir = tmp_path / "run"
    train(run_dir, 4)
    about = json.loads((run_dir / "run.json").read_text())
    old = {name: about[name] for name in ("id", "identity", "jax", "devices")}
    (run_dir / "run.json").write_text(json.dumps(old | {"format": 2}))
    for checkpoint in (run_dir / "checkpoints").iterdir():
        (checkpoint / "manifest.json").unlink()
        (checkpoint / "_CHECKPOINT_METADATA").write_text("{}")
    train(run_dir, 9, resume=True)
    assert_same_state(run_dir, 9, whole)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_save_that_fails_ends_the_run_with_what_it_has(whole, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    train(run_dir, 4, keep_checkpoints=1)
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "write", full_disk)
        with pytest.raises(OSError, match=r"generation 6 could not be saved.*No space") as error:
            train(run_dir, 9, resume=True, keep_checkpoints=1)
    assert "the run had begun, and had come to generation" in error.value.__notes__[0]
    assert saved(run_dir) == [4]  # nothing is deleted before another is there
    assert "No space left" in json.loads((run_dir / "run.json").read_text())["reason"]
    train(run_dir, 9, resume=True)
    assert_same_state(run_dir, 9, whole)


def test_what_is_written_is_read_back(tmp_path, monkeypatch):
    """A disk that returns other bits than it was given is noticed while the state is still here."""
    true, count = manifest.describe, iter(range(10**6))
    monkeypatch.setattr(manifest, "describe", lambda leaf: true(leaf) | {"shape": next(count)})
    with pytest.raises(OSError, match=r"generation 2 could not be saved.*is not what was saved"):
        train(tmp_path / "run", 2)
    assert saved(tmp_path / "run") == []


def test_a_directory_that_vanishes_ends_the_run_and_is_not_made_again(tmp_path):
    run_dir = tmp_path / "run"

    def vanish(row, state):
        shutil.rmtree(run_dir, ignore_errors=True)

    with pytest.raises(OSError, match="No such file or directory"):
        train(run_dir, 9, callback=vanish)
    assert not run_dir.exists()


def test_the_end_of_a_run_is_told(tmp_path):
    run_dir = tmp_path / "run"

    def about():
        return json.loads((run_dir / "run.json").read_text())

    def broken(row, state):
        assert about()["ended"] is about()["reason"] is None
        raise LookupError("of the user's own")

    with pytest.raises(LookupError):
        train(run_dir, 3, callback=broken)
    assert about()["reason"] == "failed: LookupError: of the user's own"
    first = about()
    train(run_dir, np.int64(3), resume=True, seed=np.int64(0))
    assert about()["reason"] == "done"
    assert first["started"] == about()["started"] <= about()["ended"]
    assert about()["jaxes"] == jaxes.__version__
    assert about()["jax"] == jax.__version__
    with pytest.raises(ValueError, match="seed"):
        train(run_dir, 3, resume=True, seed=1)
    assert about()["reason"] == "done"  # a refusal is no end


def test_other_devices_are_told(tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    train(run_dir, 2)
    train(run_dir, 4, resume=True)
    monkeypatch.setattr(identity, "_devices", lambda: "NVIDIA H200")
    with pytest.warns(UserWarning, match="the run began on cpu.*; on NVIDIA H200 its last bits"):
        train(run_dir, 6, resume=True)


def test_an_altered_identity_is_noticed(tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, 2)
    text = (run_dir / "run.json").read_text()
    for old, new in [('"seed": 0', '"seed": 1'), ('"seed"', '"sead"'), ('"cma_es"', '"cma_e5"')]:
        assert old in text
        (run_dir / "run.json").write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"run.json is damaged: it is not what was"):
            jaxes.evaluate(run_dir)


def test_a_file_in_the_place_of_a_checkpoint_is_damage(whole, tmp_path):
    run_dir = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run_dir / "checkpoints" / "9")
    (run_dir / "checkpoints" / "9").write_text("")
    assert "is damaged" in verify(run_dir)[run_dir / "checkpoints" / "9"]
    with pytest.warns(UserWarning, match="9 is damaged: .*; that of 8 is taken instead"):
        train(run_dir, 9, resume=True)
    assert_same_state(run_dir, 9, whole)


def test_a_row_far_ahead_hides_no_others(whole, tmp_path):
    run_dir = shutil.copytree(whole, tmp_path / "run")
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 1000, "time/seconds": 1.0}\n')
    with pytest.raises(ValueError, match="lacks the row of generation 10"):
        train(run_dir, 12, resume=True)


def test_lost_rows_are_told(whole, tmp_path):
    run_dir = shutil.copytree(whole, tmp_path / "run")
    rows = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(rows[:4]))
    with pytest.warns(UserWarning, match="metrics.jsonl lacks 5 of 9 rows"):
        train(run_dir, 10, resume=True)
    assert (
        verify(run_dir)[run_dir / "metrics.jsonl"]
        == "rows must be as many as generations, 10, got 5"
    )


def test_a_sweep_does_not_halve_by_lost_rows(tmp_path):
    run_dir = tmp_path / "run"
    options = {"halving": jaxes.Halving((4,), 0.5), "run_dir": run_dir, "checkpoint_every": 2}
    sigmas = {"sigma": [0.1, 1.0]}
    jaxes.sweep(sphere(3), jaxes.cem(16), sigmas, num_generations=6, **options)
    (run_dir / "trials" / "0001" / "metrics.jsonl").unlink()
    with (
        pytest.warns(UserWarning, match="lacks"),
        pytest.raises(ValueError, match=r"0001/metrics.jsonl lacks .* by whose tests halving"),
    ):
        jaxes.sweep(sphere(3), jaxes.cem(16), sigmas, num_generations=8, resume=True, **options)


def test_a_stopped_run_that_goes_on_from_before_its_stop_ends_there_again(tmp_path):
    run_dir = tmp_path / "run"

    def stop(row, state):
        return row["generation"] >= 5

    stopped = train(run_dir, 40, callback=stop, keep_checkpoints="all")
    assert stopped.status == "stopped"
    last = run_dir / "checkpoints" / str(stopped.generation) / "manifest.json"
    last.unlink()
    with pytest.warns(UserWarning, match="is taken instead"):
        again = train(run_dir, 40, resume=True, keep_checkpoints="all")
    assert (again.status, again.generation) == ("stopped", stopped.generation)
    (run_dir / "stopped.json").unlink()
    assert train(run_dir, stopped.generation + 1, resume=True).status == "done"


def test_what_cannot_be_read_for_now_is_not_damaged(whole, tmp_path):
    run_dir = shutil.copytree(whole, tmp_path / "run")
    for error in (MemoryError(), PermissionError(errno.EACCES, "no")):
        raises = mock.Mock(side_effect=error)
        with mock.patch.object(manifest, "read", raises), pytest.raises(type(error)):
            train(run_dir, 10, resume=True)
    assert saved(run_dir) == saved(whole)


def test_an_exit_of_the_user_s_is_no_end(tmp_path):
    def leave(row, state):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        train(tmp_path / "run", 9, callback=leave)
    reason = json.loads((tmp_path / "run" / "run.json").read_text())["reason"]
    assert reason == "failed: SystemExit: 3"


def test_a_trial_is_a_trial_by_any_path(tmp_path):
    from jaxes.training.directory import sweep_of

    trial = tmp_path / "sweep" / "trials" / "0000"
    trial.mkdir(parents=True)
    (tmp_path / "link").symlink_to(trial)
    for path in (trial, tmp_path / "link", trial / ".." / "0000"):
        assert sweep_of(path) == (tmp_path / "sweep").resolve()
