"""A long search survives: saved, gone on with to the bit, and never lost to an exception."""

import os
import pickle
import signal

import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes.optimize import drive

OPTIONS = {"std": 2.0, "restarts": "bipop", "max_restarts": 2, "seed": 3}
START = np.full(3, 3.0)


def rastrigin(x):
    return 10 * x.size + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


def on_host(x):
    return 10 * x.shape[1] + (x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1)


def same(found, whole):
    assert found._replace(solution=0, mean=0, progress=0) == whole._replace(
        solution=0, mean=0, progress=0
    )
    np.testing.assert_array_equal(found.solution, whole.solution)
    np.testing.assert_array_equal(found.mean, whole.mean)


@pytest.mark.parametrize("host", [False, True])
def test_a_search_that_is_gone_on_with_is_the_one_that_was_never_cut(host, tmp_path):
    fn = on_host if host else rastrigin
    whole = jaxes.minimize(fn, START, **OPTIONS, host=host, budget=6000)
    assert whole.starts > 3
    in_memory = on_disk = None
    for budget in (8, 700, 701, 6000):
        again = {"resume": in_memory} if in_memory else {}
        in_memory = jaxes.minimize(fn, START, **OPTIONS, host=host, budget=budget, **again)
        in_memory = pickle.loads(pickle.dumps(in_memory))
        on_disk = jaxes.minimize(
            fn, START, **OPTIONS, host=host, budget=budget, run_dir=tmp_path, resume=True
        )
        assert on_disk.evaluations <= budget
    same(in_memory, whole)
    same(on_disk, whole)


def test_a_target_that_was_reached_can_be_raised():
    first = jaxes.minimize(rastrigin, START, **OPTIONS, target=5.0)
    assert first.reason == "target"
    further = jaxes.minimize(rastrigin, START, **OPTIONS, target=1e-3, resume=first)
    whole = jaxes.minimize(rastrigin, START, **OPTIONS, target=1e-3)
    same(further, whole)
    assert jaxes.minimize(rastrigin, START, **OPTIONS, target=9.0, resume=first).value <= 5.0


def test_a_callback_is_shown_the_search_and_can_end_it():
    seen = []

    def callback(result):
        seen.append(result)
        return len(seen) == 3

    result = jaxes.minimize(on_host, START, host=True, callback=callback)
    assert (result.reason, result.evaluations) == ("callback", 24)
    assert [shown.evaluations for shown in seen] == [8, 16, 24]
    assert all(shown.value >= result.value > 0 for shown in seen)
    ended = jaxes.minimize(rastrigin, START, callback=lambda result: True)
    assert ended.reason == "callback"


def test_a_callback_says_true_or_nothing():
    with pytest.raises(ValueError, match=r"callback must be a function to True.*got 1\.5"):
        jaxes.minimize(rastrigin, START, callback=lambda result: 1.5)


@pytest.mark.parametrize("run_dir", [False, True])
def test_an_exception_of_the_function_keeps_the_best_so_far(run_dir, tmp_path):
    values = []

    def fails(x):
        if len(values) == 20:
            raise OSError("the simulator is gone")
        values.append(on_host(x).min())
        return on_host(x)

    keep = {"run_dir": tmp_path / "run"} if run_dir else {}
    with pytest.raises(OSError, match="simulator") as failed:
        jaxes.minimize(fails, START, host=True, budget=4000, **keep)
    found = failed.value.result
    np.testing.assert_allclose(found.value, min(values))
    np.testing.assert_allclose(on_host(found.solution[None])[0], found.value)
    whole = jaxes.minimize(on_host, START, host=True, budget=4000)
    on = {"run_dir": tmp_path / "run", "resume": True} if run_dir else {"resume": found}
    same(jaxes.minimize(on_host, START, host=True, budget=4000, **on), whole)


class ClosedError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(f"no {name}")


def test_an_exception_that_takes_no_attribute_stays_itself():
    def fails(x):
        raise ClosedError

    with pytest.raises(ClosedError):
        jaxes.minimize(fails, START, host=True, budget=400)


def test_a_save_that_fails_at_the_end_keeps_the_best(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drive, "save", full)
    with pytest.raises(OSError, match="No space") as failed:
        jaxes.minimize(on_host, START, host=True, budget=200, run_dir=tmp_path / "run")
    assert failed.value.result.evaluations > 0
    assert "the search could not be saved" in failed.value.__notes__[0]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("host", [False, True])
def test_ctrl_c_keeps_the_best_so_far(signum, host):
    count, before = [], signal.getsignal(signum)

    def callback(result):
        count.append(result.value)
        if len(count) == 2:
            os.kill(os.getpid(), signum)

    with pytest.raises(KeyboardInterrupt, match=r"stopped after \d+ evaluations") as stopped:
        jaxes.minimize(
            on_host if host else rastrigin, START, host=host, restarts="ipop", callback=callback
        )
    assert stopped.value.result.value == min(count)
    assert stopped.value.result.reason == "none"
    assert signal.getsignal(signum) == before


def test_what_is_in_the_directory_is_never_replaced(tmp_path):
    jaxes.minimize(rastrigin, START, budget=100, run_dir=tmp_path)
    before = (tmp_path / "search.npz").read_bytes()
    with pytest.raises(ValueError, match="already holds a run"):
        jaxes.minimize(rastrigin, START, budget=100, run_dir=tmp_path)
    for change, message in (
        ({"seed": 1}, "seed: the run in .* has 0, got 1"),
        ({"std": 3.0}, r"^std: the run in .* has"),
        ({"bounds": (-5, 5)}, "bounds: the run in"),
        ({"termination": jaxes.Termination(1e-3)}, "termination.tolfun: the run in .* '0.001'"),
        ({"restarts": "ipop"}, "restarts: the run in .* has 'none', got 'ipop'"),
        ({"population_size": 16}, "population_size"),
        ({"strategy": jaxes.snes}, "strategy"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxes.minimize(rastrigin, START, budget=200, run_dir=tmp_path, resume=True, **change)
    with pytest.raises(ValueError, match="mean"):
        jaxes.minimize(rastrigin, START + 1, budget=200, run_dir=tmp_path, resume=True)
    assert (tmp_path / "search.npz").read_bytes() == before
    (tmp_path / "search.npz").write_bytes(before[:300])
    with pytest.raises(ValueError, match=r"search.npz is damaged"):
        jaxes.minimize(rastrigin, START, budget=200, run_dir=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_dir": 3}, "run_dir must be a path or None, got 3"),
        ({"resume": True}, "resume must be False without a run_dir, got True"),
        ({"resume": "yes"}, "resume must be True, False or a result, got 'yes'"),
        ({"callback": 3}, "callback must be a function or None"),
        ({"run_dir": "/proc/nowhere/x"}, "run_dir: /proc/nowhere/x cannot be made"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jaxes.minimize(rastrigin, START, **options)


def test_another_search_is_not_gone_on_with():
    found = jaxes.minimize(rastrigin, START, budget=50)
    with pytest.raises(ValueError, match="seed: the search to go on with has 0, got 4"):
        jaxes.minimize(rastrigin, START, budget=100, seed=4, resume=found)
    with pytest.raises(ValueError, match="resume must be a result with its progress"):
        jaxes.minimize(rastrigin, START, budget=100, resume=found._replace(progress=None))


@pytest.mark.parametrize("later", ["raises", "outside"])
def test_a_mean_that_fails_in_a_later_start_loses_nothing(later, tmp_path):
    calls = []

    def mean(key):
        calls.append(key)
        if len(calls) < 3:
            return jnp.zeros(2)
        if later == "raises":
            raise OSError("no more means")
        return jnp.full(2, 9.0)

    error = OSError if later == "raises" else ValueError
    with pytest.raises(error, match=r"no more means|mean must be within the bounds") as failed:
        jaxes.minimize(
            lambda x: jnp.sum((x - 0.3) ** 2),
            mean,
            bounds=(-1, 1),
            restarts="ipop",
            run_dir=tmp_path,
        )
    found = failed.value.result
    assert found.starts == 1
    np.testing.assert_allclose(found.solution, 0.3, atol=1e-3)
    np.testing.assert_allclose(found.mean, 0.3, atol=1e-2)
    assert (tmp_path / "search.npz").exists()
    assert found.progress.used == ()


def test_another_direction_dtype_or_restarts_is_another_search(tmp_path):
    found = jaxes.minimize(rastrigin, START, restarts="ipop", budget=2000, run_dir=tmp_path)
    assert found.starts > 1
    for again, message in (
        (lambda **o: jaxes.maximize(rastrigin, START, restarts="ipop", **o), "minimized"),
        (lambda **o: jaxes.minimize(rastrigin, START.astype("f"), restarts="ipop", **o), "dtype"),
        (lambda **o: jaxes.minimize(rastrigin, [*START], restarts="ipop", **o), None),
        (
            lambda **o: jaxes.minimize(rastrigin, START, restarts="ipop", max_restarts=0, **o),
            "max_restarts must be enough for the 2 starts",
        ),
    ):
        for kept in ({"resume": found}, {"resume": True, "run_dir": tmp_path}):
            if message is None:
                continue
            with pytest.raises(ValueError, match=message):
                again(budget=4000, **kept)


def test_an_end_at_the_target_is_the_end_when_it_is_gone_on_with():
    """The target is what it is in the dtype of the search."""

    def fn(x):
        return jnp.minimum(1 - jnp.sum(x**2), 0.7)

    ended = jaxes.maximize(fn, np.ones(3, np.float32), target=0.7)
    assert ended.reason == "target"
    again = jaxes.maximize(fn, np.ones(3, np.float32), target=0.7, resume=ended)
    same(again, ended)


def test_a_target_that_was_reached_long_ago_ends_it_at_once():
    found = jaxes.minimize(rastrigin, START, restarts="ipop", budget=3000)
    again = jaxes.minimize(
        rastrigin, START, restarts="ipop", budget=9000, target=found.value + 1, resume=found
    )
    assert (again.reason, again.evaluations) == ("target", found.evaluations)


@pytest.mark.parametrize("target", [1e39, -1e39])
def test_a_target_beyond_the_dtype_is_refused(target):
    with pytest.raises(ValueError, match=r"target must be within ±3.4e\+38"):
        jaxes.minimize(rastrigin, START.astype("f"), target=target)
