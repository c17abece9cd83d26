"""Processes that run as one: the bits of a run, its files, and how it ends."""

import json

import jax
import pytest
import together

SCRIPT = """
import hashlib, json, os, sys
from pathlib import Path
# Little is computed, so that most of the time is LLVM's otherwise.
os.environ["XLA_FLAGS"] += (
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
import jaxes
hosts, devices, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jaxes.use_cpu_devices(devices)
place = jaxes.use_hosts(hosts, timeout=120)
import jax, numpy as np
from jaxes import parallel
from jaxes.hosts import agree
from walks import walk

environment = walk()._replace(
    measure=lambda state: {"place": state.position, "steps": state.steps_left})
problem = jaxes.problems.policy_search(
    environment, jaxes.policies.linear(), num_episodes=3, num_test_episodes=3, episode_length=9,
    num_lanes=8, normalize_observations=True)
calls = []

def train(run_dir, sigma=0.1, **settings):
    return jaxes.train(
        problem, jaxes.openai_es(10, sigma=sigma), test_every=3, checkpoint_every=3,
        run_dir=run_dir, callback=lambda row, state: calls.append(row["generation"]), **settings)

train(folder / "run", num_generations=6)
result = train(folder / "run", num_generations=9, resume=True)
state = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(parallel.local(result.state))]
told = {name: value for name, value in result.plain().items() if "seconds" not in name}
run_dir = told.pop("run_dir")
print(json.dumps({
    "place": place, "devices": jax.device_count(), "calls": calls, "run_dir": run_dir,
    "gathered": agree.gathered([place, 2.0**-1074, 0.1]).tolist(),
    "first": agree.of_first(lambda: [place, "first"]),
    "keys": jax.random.key_data(agree.from_first(jax.random.key(7 + place))).tolist(),
    "state": hashlib.sha256(b"".join(state)).hexdigest(), "result": repr(told),
}), flush=True)
if hosts != "off":
    train(folder / "other", sigma=0.1 + 0.1 * (place == 1), num_generations=1)
"""
# What depends on how many processes and devices there are.
OWN = ("time/", "net/", "rollout/utilization")


def rows_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def common(rows):
    return [{k: v for k, v in row.items() if not k.startswith(OWN)} for row in rows]


class Run:
    """The script in so many processes, with so many devices each, in a folder of its own."""

    def __init__(self, folder, count, devices):
        self.folder = folder
        self.run_dir = folder / "run"
        self.processes = together.script(SCRIPT, devices, folder, count=count)

    def end(self):
        with self.processes as processes:
            self.ended = processes.ended()
        for code, out, err in self.ended:
            assert code in (0, 2), err
            assert out.count("\n") == 1, out + err
        self.said = [json.loads(one.out) for one in self.ended]
        return self


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of one process with two devices, and of two with one each, at the same time."""
    folder = tmp_path_factory.mktemp("together")
    both = [Run(folder / str(count), count, devices) for count, devices in ((1, 2), (2, 1))]
    return [run.end() for run in both]


@pytest.fixture(scope="module")
def alone(runs):
    return runs[0]


@pytest.fixture(scope="module")
def two(runs):
    return runs[1]


def assert_same_run(run, alone):
    rows, expected = rows_of(run.run_dir), rows_of(alone.run_dir)
    assert [row["generation"] for row in rows] == list(range(1, 10))
    for ours, theirs in zip(common(rows), common(expected), strict=True):
        assert ours == theirs, ours["generation"]
    for said in run.said:
        assert said["state"] == alone.said[0]["state"]
        assert said["result"] == alone.said[0]["result"]


def test_two_processes_have_the_bits_of_one(two, alone):
    assert [said["place"] for said in two.said] == [0, 1]
    assert {said["devices"] for said in (*two.said, *alone.said)} == {2}
    assert_same_run(two, alone)
    assert {"test/return_mean", "test/place"} <= rows_of(two.run_dir)[-1].keys()


def test_only_the_first_process_writes_and_calls_back(two, alone):
    first, other = two.said
    assert first["run_dir"] == str(two.run_dir)
    assert first["calls"][-1] == 9
    assert set(first["calls"]) <= set(range(1, 10))
    assert other["run_dir"] is None
    assert other["calls"] == []
    for file in ("metrics.jsonl", "run.json"):
        assert (two.run_dir / file).exists()
    files = [sorted(path.name for path in run.run_dir.iterdir()) for run in (two, alone)]
    assert files[0] == files[1]
    checkpoints = [
        sorted(path.name for path in (run.run_dir / "checkpoints").iterdir())
        for run in (two, alone)
    ]
    assert checkpoints[0] == checkpoints[1]


def test_they_agree_on_what_all_say_or_the_first(two):
    for said in two.said:
        assert said["gathered"] == [[place, 2.0**-1074, 0.1] for place in (0, 1)]
        assert said["first"] == [0, "first"]
        assert said["keys"] == jax.random.key_data(jax.random.key(7)).tolist()


def test_rows_say_what_was_sent_and_waited_for(two, alone):
    for row in rows_of(two.run_dir):
        assert 12 * 30 / 2 < row["net/bytes"] < 16 * (30 + 3) + 48 * 2 + 4096
        assert row["time/wait"] >= 0
    assert not {"net/bytes", "time/wait"} & rows_of(alone.run_dir)[-1].keys()


def test_processes_that_are_called_otherwise_are_refused(two):
    assert [one.code for one in two.ended] == [2, 2]
    for one in two.ended:
        assert "strategy.sigma: all processes must have the same run: 0.2 in process 1" in one.err
        assert "0.1 in process 0" in one.err
    assert "Traceback" not in two.ended[1].err
    assert [path.name for path in two.folder.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (3, 1)])
def test_any_number_of_processes_has_the_bits_of_one(count, devices, alone, tmp_path):
    run = Run(tmp_path, count, devices).end()
    assert {said["devices"] for said in run.said} == {count * devices}
    assert_same_run(run, alone)
