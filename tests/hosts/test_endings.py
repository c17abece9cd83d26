"""Commands in many processes: how they end, go on, and what they leave."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import together

from jaxes.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

TINY = """
environment: {name: pendulum}
policy: {name: mlp, hidden: [4]}
problem: {num_test_episodes: 4, episode_length: 100}
strategy:
  name: openai_es
  population_size: 32
  openai_es: {sigma: 0.1, learning_rate: 0.05}
training: {num_generations: 1200, checkpoint_every: 20, test_every: 20}
"""
OWN = ("time/", "net/", "rollout/utilization")
# With the flags of users: with those of the other tests last bits of `return/mean` may differ.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
FOR_EVER = ("--set", "training.num_generations=1000000")


@pytest.fixture
def workplace(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run in one process."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TINY)
    (done,) = ended("train", "tiny.yaml", "--run-dir", "run", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def ended(*arguments, **settings):
    with started(*arguments, **settings) as processes:
        return processes.ended()


def started(*arguments, **settings):
    return together.jaxes(*arguments, **{"env": ENVIRONMENT} | settings)


def rows_of(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(OWN)} for line in lines]


def saved(run_dir):
    """The last saved generation, and the bytes of its state."""
    generation, leaves = Checkpoints(run_dir / "checkpoints", read_only=True).newest()
    return generation, {name: leaf.tobytes() for name, leaf in leaves.items()}


def assert_same_run(run_dir, whole):
    for ours, theirs in zip(rows_of(run_dir), rows_of(whole), strict=True):
        assert ours == theirs, ours["generation"]
    assert saved(run_dir) == saved(whole)


def wait_for_generation(run_dir, generation):
    deadline = time.monotonic() + together.TIMEOUT
    metrics = run_dir / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < generation:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def launching(workplace, *options, more=()):
    """`jaxes launch` of three processes; none is left behind."""
    command = [sys.executable, *together.JAXES, "launch", "-n", "3", "--cpu-devices", "1", *options]
    command += ["--", "train", "tiny.yaml", "--run-dir", "run", *more]
    launcher = subprocess.Popen(
        command,
        cwd=workplace,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield launcher
    finally:
        if launcher.poll() is None:
            for process in launched(launcher).values():
                os.kill(process, signal.SIGKILL)
        launcher.kill()
        launcher.communicate()


def launched(launcher):
    """The processes of `jaxes launch` that run now, by their numbers."""
    found = {}
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        found[int(command[command.index("--hosts") + 1].rpartition(",")[2])] = int(child)
    return found


def test_a_killed_process_changes_no_bit_of_what_is_launched(workplace, whole):
    killed = 0  # from which all the others hear how things stand
    with launching(workplace, "--restarts", "3") as launcher:
        wait_for_generation(workplace / "run", 30)
        os.kill(launched(launcher)[killed], signal.SIGKILL)
        _, said = launcher.communicate(timeout=together.TIMEOUT)
    assert launcher.returncode == 0, said
    assert f"jaxes launch: process {killed} was ended by SIGKILL" in said
    assert "jaxes launch: starting again (1 of 3)" in said
    assert_same_run(workplace / "run", whole)


def test_sigterm_to_one_ends_all_with_a_checkpoint(workplace):
    run_dir = workplace / "run"
    train = ("train", "tiny.yaml", "--run-dir", "run", *FOR_EVER)
    with started(*train, count=3, cwd=workplace) as processes:
        wait_for_generation(run_dir, 30)
        processes.processes[1].send_signal(signal.SIGTERM)
        done = processes.ended()
    assert [one.code for one in done] == [143] * 3, done
    assert "go on with: jaxes resume run" in done[0].out
    assert saved(run_dir)[0] == len(rows_of(run_dir)) >= 30
    assert json.loads((run_dir / "run.json").read_text())["reason"] == "interrupted"


def test_a_process_that_is_stopped_is_named_and_all_end(workplace):
    with launching(workplace, more=FOR_EVER) as launcher:
        wait_for_generation(workplace / "run", 30)
        os.kill(launched(launcher)[2], signal.SIGSTOP)
        _, said = launcher.communicate(timeout=together.TIMEOUT)
    assert launcher.returncode == 75, said
    assert re.search(r"process 2 on \S+ \(pid \d+\): no sign of life", said), said
    assert saved(workplace / "run")[0] == len(rows_of(workplace / "run"))


SCRIPT = """
import sys, time
import jaxes
how = sys.argv[2]
jaxes.use_cpu_devices(1)
index = jaxes.use_hosts(sys.argv[1], timeout=120, patience=15)
if index == 1 and how == "raises":
    raise ValueError("no data here")
if index == 1 and how == "exits":
    sys.exit()
if index == 1 and how == "hangs":
    time.sleep(1000)
problem, strategy = jaxes.problems.functions.sphere(3), jaxes.openai_es(16)
if index == 1 and how == "sweeps":
    jaxes.sweep(problem, strategy, {"sigma": [0.1]}, num_generations=3)
else:
    hang = lambda row, state: time.sleep(1000)
    jaxes.train(problem, strategy, num_generations=3, callback=hang if how == "calls" else None)
"""


@pytest.mark.parametrize(
    ("how", "codes", "said"),
    [
        ("raises", [1, 1], r"process 1 on \S+ \(pid \d+\): no data here"),
        ("exits", [75], r"process 1 on \S+ \(pid \d+\): it has ended, and others wait for it"),
        ("hangs", [75, 75], r"process 1 on \S+ \(pid \d+\): others wait for it: no progress for"),
        ("calls", [75, 75], r"process 0 on \S+ \(pid \d+\): others wait for it: no progress for"),
        ("sweeps", [75, 75], r"others wait for it: no progress for"),
    ],
)
def test_nobody_waits_for_ever(how, codes, said):
    """What goes wrong in one process between what all do together ends all of them."""
    with together.script(SCRIPT, how, count=2, env=ENVIRONMENT) as processes:
        done = processes.ended()
    assert [one.code for one in done][: len(codes)] == codes, done
    assert re.search(said, done[0].err), done


def test_what_is_launched_ends_with_its_launcher(workplace):
    with launching(workplace, more=FOR_EVER) as launcher:
        wait_for_generation(workplace / "run", 30)
        left = launched(launcher)
        launcher.kill()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{process}").exists() for process in left.values()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert json.loads((workplace / "run" / "run.json").read_text())["reason"] == "interrupted"


def test_a_run_goes_on_in_any_number_of_processes(workplace, whole):
    train = ("train", "tiny.yaml", "--run-dir", "run", "--resume", "--set")
    for generations, count, devices in ((400, 2, 1), (800, 1, 2), (1200, 3, 1)):
        more = f"training.num_generations={generations}"
        done = ended(*train, more, count=count, devices=devices, cwd=workplace)
        assert [one.code for one in done] == [0] * count, done
    assert_same_run(workplace / "run", whole)


def test_a_sweep_of_many_processes_has_the_trials_of_one(workplace):
    text = TINY.replace("num_generations: 1200", "num_generations: 60")
    text += "sweep:\n  grid: {strategy.openai_es.sigma: [0.05, 0.1]}\n  num_seeds: 2\n"
    text += "  halving: {generations: [20], keep: 0.5}\n"
    (workplace / "sweep.yaml").write_text(text)
    for count in (1, 2):
        sweep = ("sweep", "sweep.yaml", "--run-dir", f"{count}")
        done = ended(*sweep, count=count, devices=2 // count, cwd=workplace)
        assert [one.code for one in done] == [0] * count, done
    one, two = (sorted((workplace / count / "trials").iterdir()) for count in "12")
    assert [trial.name for trial in one] == [trial.name for trial in two]
    assert len(one) == 4
    for ours, theirs in zip(two, one, strict=True):
        assert_same_run(ours, theirs)
