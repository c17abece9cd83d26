"""What the benchmarks take as arguments."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import machine


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("2e6", 2_000_000), ("20.0", 20)])
def test_a_count_is_a_whole_number(text, number):
    assert machine.count(text) == number
    assert machine.counts(f"{text},3") == [number, 3]


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "x", "", "nan", "inf", "1,,2"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number, at least 1, got"):
        machine.counts(text)


def test_names_are_those_that_there_are():
    read = machine.some_of({"hand": 1, "restarts": 2})
    assert read("restarts,hand,restarts") == ["restarts", "hand"]
    for text, said in [
        ("hands", "no 'hands'; there are hand, restarts"),
        ("hand,", "no ''; there"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=said):
            read(text)
