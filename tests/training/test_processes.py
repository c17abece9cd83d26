"""Real processes of the command line: killed, interrupted, resumed.

They run an environment of a package of its own: it compiles in a tenth of the time of Brax's.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxes.training.metrics import read_rows

CONFIG = """
environment: {name: walk}
problem: {num_test_episodes: 4, num_episodes: 100}
policy: {name: mlp, hidden: [4]}
strategy: {name: cma_es, population_size: 16}
training: {num_generations: 100, checkpoint_every: 3, test_every: 5}
"""
PACKAGE = "walks-1.dist-info"  # as an installer leaves it; the module is tests/walks.py


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a config and a whole run."""
    directory = tmp_path_factory.mktemp("processes")
    (directory / "config.yaml").write_text(CONFIG)
    (directory / PACKAGE).mkdir()
    (directory / PACKAGE / "METADATA").write_text("Name: walks\nVersion: 1\n")
    (directory / PACKAGE / "entry_points.txt").write_text(
        "[jaxes.environments]\nwalk = walks:walk\n"
    )
    whole = start(directory, "train", "config.yaml", "--run-dir", "whole", "--json")
    stdout, stderr = whole.communicate(timeout=300)
    assert whole.returncode == 0, stderr
    (directory / "stdout").write_text(stdout)
    return directory


def start(directory, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "jaxes.cli", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_generation(run_dir, generation):
    deadline = time.monotonic() + 300
    metrics = run_dir / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < generation:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def final_state(run_dir):
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore((run_dir / "checkpoints" / "100" / "default").resolve())
    return {name: np.asarray(leaf) for name, leaf in state.items()}


def assert_same_run(run_dir, whole):
    left, right = final_state(run_dir), final_state(whole)
    assert left.keys() == right.keys()
    for name, leaf in left.items():
        np.testing.assert_array_equal(leaf, right[name], err_msg=name)
    for ours, theirs in zip(*(lines(path) for path in (run_dir, whole)), strict=True):
        for name in theirs.keys() - {"time/seconds", "rollout/utilization"}:
            assert ours[name] == theirs[name], (ours["generation"], name)


def lines(run_dir):
    rows, _ = read_rows(run_dir / "metrics.jsonl")
    return rows


def test_json_is_the_last_line_and_the_run_directory_the_only_trace(workplace):
    summary = json.loads((workplace / "stdout").read_text().splitlines()[-1])
    assert summary["generation"] == 100
    assert summary["run_dir"] == "whole"
    assert summary["env_steps"] == sum(
        row["rollout/env_steps"] for row in lines(workplace / "whole")
    )
    assert np.isfinite([summary[name] for name in ("return_mean", "return_std", "seconds")]).all()
    assert {path.name for path in workplace.iterdir()} <= {
        "config.yaml",
        PACKAGE,
        "whole",
        "stdout",
        "cut",
    }


def test_what_ends_a_process_takes_nothing_from_its_run(workplace):
    """Killed before its first checkpoint, and on one device after it; then SIGTERM, which Ctrl-C is
    to the run but for its code."""
    run_dir = workplace / "cut"
    process = start(workplace, "train", "config.yaml", "--run-dir", "cut")
    end(process, signal.SIGKILL, run_dir, 1)
    process = start(workplace, "resume", "cut", "--cpu-devices", "1")
    end(process, signal.SIGKILL, run_dir, 10)
    before = len(lines(run_dir))
    process = start(workplace, "resume", "cut")
    said = end(process, signal.SIGTERM, run_dir, before + 4)
    last = lines(run_dir)[-1]["generation"]
    assert before < last
    assert "jaxes resume cut" in said
    assert (run_dir / "checkpoints" / str(last)).is_dir()
    assert ended(run_dir) == "interrupted"
    resumed = start(workplace, "resume", "cut")
    _, stderr = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, stderr
    assert_same_run(run_dir, workplace / "whole")
    assert ended(run_dir) == "done"


def end(process, sent, run_dir, generation):
    """Ends a process by a signal once its run has come so far; what it says."""
    wait_for_generation(run_dir, generation)
    assert ended(run_dir) is None
    process.send_signal(sent)
    stdout, stderr = process.communicate(timeout=300)
    killed = sent == signal.SIGKILL
    assert process.returncode == (-sent if killed else 128 + sent), stderr
    assert len(lines(run_dir)) < 100
    return stdout


def ended(run_dir):
    return json.loads((run_dir / "run.json").read_text())["reason"]
