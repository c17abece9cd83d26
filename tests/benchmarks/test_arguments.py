"""What the benchmarks take as arguments."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import machine
import peers


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("2e6", 2_000_000), ("20.0", 20)])
def test_a_count_is_a_whole_number(text, number):
    assert machine.count(text) == number
    assert machine.counts(f"{text},3") == [number, 3]


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "x", "", "nan", "inf", "1,,2"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number, at least 1, got"):
        machine.counts(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_what_is_not_positive_is_refused(text):
    assert machine.positive("0.05") == 0.05
    with pytest.raises(argparse.ArgumentTypeError, match="a finite number above 0, got "):
        machine.positive(text)


def test_rows_of_a_damaged_file_are_named(tmp_path):
    path = tmp_path / "rows.json"
    assert machine.rows_of(path) == machine.rows_of(None) == []
    path.write_text('{"rows": [')
    with pytest.raises(SystemExit, match=r"rows\.json is damaged"):
        machine.rows_of(path)


def test_an_environment_that_was_there_stays(monkeypatch, tmp_path):
    python = tmp_path / "evosax" / "bin" / "python"
    python.parent.mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"--venvs: .*evosax is there without evosax: remove it"):
        peers.check_environments(tmp_path, ["evox", "evosax"])
    python.touch()
    there = {"evosax": "0"}
    monkeypatch.setattr(peers, "versions", lambda _: there)
    with pytest.raises(SystemExit, match=rf"evosax 0, not {peers.PEERS['evosax'].version}: "):
        peers.check_environments(tmp_path, ["evox", "evosax"])
    there["evosax"] = peers.PEERS["evosax"].version
    peers.check_environments(tmp_path, ["evox", "evosax"])
    with peers.environment_of("evosax", tmp_path, keep=False) as (venv, row):
        assert (venv, row) == (tmp_path / "evosax", None)
    assert python.exists()


def test_names_are_those_that_there_are():
    read = machine.some_of({"hand": 1, "restarts": 2})
    assert read("restarts,hand,restarts") == ["restarts", "hand"]
    for text, said in [
        ("hands", "no 'hands'; there are hand, restarts"),
        ("hand,", "no ''; there"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            read(text)
