"""What the loggers receive."""

import json
import sys
import types

import pytest

from jaxes.training import metrics

ROWS = [{"generation": 1, "fitness/mean": 2.5}, {"generation": 2, "fitness/mean": float("nan")}]


def test_json_lines_skip_what_they_have_and_hold_no_nan(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for rows in (ROWS[:1], ROWS, ROWS):
        sink = metrics.JsonLines(path)
        sink.write(rows)
        sink.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"generation": 1, "fitness/mean": 2.5},
        {"generation": 2, "fitness/mean": None},
    ]


def test_tensorboard_gets_every_scalar(tmp_path, monkeypatch):
    scalars = []

    class Writer:
        def __init__(self, directory):
            assert directory == str(tmp_path / "tensorboard")

        def add_scalar(self, name, value, step):
            scalars.append((name, value, step))

        def close(self):
            scalars.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    (tmp_path / "run.json").write_text(json.dumps({"id": "abc"}))
    for sink in metrics.open_sinks(tmp_path, ("tensorboard",)):
        sink.write(ROWS[:1])
        sink.close()
    assert scalars == [("generation", 1, 1), ("fitness/mean", 2.5, 1), "closed"]


def test_wandb_continues_the_run_of_its_id(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((row, step)), finish=lambda: calls.append("finished")
    )
    fake = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    (tmp_path / "run.json").write_text(json.dumps({"id": "abc"}))
    for sink in metrics.open_sinks(tmp_path, ("wandb",)):
        sink.write(ROWS[:1])
        sink.close()
    assert calls[0]["id"] == "abc"
    assert calls[0]["resume"] == "allow"
    assert calls[1:] == [(ROWS[0], 1), "finished"]


def test_unknown_and_missing_loggers_are_refused():
    with pytest.raises(ValueError, match="loggers must be of tensorboard, wandb, got 'mlflow'"):
        metrics.check_installed(("mlflow",))
