"""The table of returns: what run directories come to, which are left out, and what is claimed."""

import inspect
import json
import math
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import table
import table_films
import table_rows
import table_runs
import table_search
import table_settings
import table_text
import table_train

import jaxes
from jaxes.sweeps.table import COLUMNS, write_tables
from jaxes.training.identity import describe, note_end
from jaxes.training.metrics import finite

ROOT = Path(__file__).parents[2]
ROWS = table_rows.read(ROOT / "benchmarks" / "results" / "table-cpu.json")["rows"]
STEPS, EVERY = 20_000_000, 1_000_000  # a budget, and steps of a generation, each of them tested
MACHINE = {"processor": "a processor", "cores": 2, "device": "cpu", "devices": 2}
MACHINE |= {"python": "3.11.7", "jax": "0.10.2"}
RESULT = {
    "generation": STEPS // EVERY,
    "num_test_episodes": 128,
    "num_test_diverged": 0,
    "return_ci95": 1.0,
    "episode_length": 1000.0,
    "zero_policy_return": 100.0,
}


def config_of(task, algorithm):
    return {
        "environment": {"name": "brax", "env_name": task, "backend": "spring", "options": None},
        "problem": {"episode_length": 1000, "num_test_episodes": 32, "alive_penalty": 1.0},
        "policy": {"name": "mlp", "hidden": [16, 16]},
        "strategy": {"name": algorithm, "population_size": 64, algorithm: {"sigma": 0.1}},
    }


def row(generation, value):
    """The first generation's test has a hundred, and each later one as much more."""
    return {
        "generation": generation,
        "rollout/env_steps": EVERY,
        "time/seconds": 10.0,
        "test/return_mean": value * generation,
        "test/diverged": 0,
        "test/distance": 0.5 * generation,
    }


def write_seed(path, seed, value, task="hopper", algorithm="cem", distance=10.0):
    path.mkdir(parents=True)
    config = config_of(task, algorithm)
    describe(path, {"seed": seed, "config": config}, config)
    rows = [row(i, value) for i in range(1, STEPS // EVERY + 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    end = value * STEPS // EVERY
    result = RESULT | {"score": end, "return_mean": end, "measures": {"distance": distance}}
    final = {"steps": STEPS, "compile_seconds": 2.0, "machine": MACHINE, "result": result}
    (path / "final.json").write_text(json.dumps(final | {"commit": "abc"}))
    tie(path)


def tie(path):
    """Says that the test at the end is of these rows."""
    content = json.loads((path / "final.json").read_text()) | table_runs.tie_of(path)
    (path / "final.json").write_text(json.dumps(content))


def write_runs(path, values=(100, 110, 130), first=0, **more):
    """What a sweep over so many seeds leaves, each of which ends at 20 times its value."""
    path.mkdir(parents=True)
    describe(path, {"sweep": [[first + i, {}] for i in range(len(values))]}, None)
    note_end(path, "done", None)
    for i, value in enumerate(values):
        write_seed(path / "trials" / f"{i:04d}", first + i, value, **more)
    return path


def command(monkeypatch, *arguments):
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        table.main()
    return ended.value.code


def collect(monkeypatch, runs, output, *more):
    """The exit code, and the rows that are kept."""
    code = command(monkeypatch, "collect", runs, "--output", output, "--seeds", 3, *more)
    return code, json.loads(output.read_text())["rows"] if output.exists() else []


@pytest.fixture
def collected(monkeypatch, tmp_path):
    def run(*more, name="table.json"):
        return collect(monkeypatch, tmp_path / "runs", tmp_path / name, *more)

    return run


def change(path, *fields, to):
    """Sets a field of a JSON file."""
    content = json.loads(path.read_text())
    inner = content
    for field in fields[:-1]:
        inner = inner[field]
    inner[fields[-1]] = to
    path.write_text(json.dumps(content))


def test_a_row_says_what_each_seed_came_to(tmp_path, collected):
    write_runs(tmp_path / "runs" / "hopper" / "cem")
    code, (found,) = collected()
    assert code == 0
    assert (found["task"], found["algorithm"]) == ("hopper", "cem")
    assert found["settings"]["numbers"] == {"sigma": 0.1}
    assert found["settings"]["problem"] == {"alive_penalty": 1.0}
    assert [found["seconds"], found["compile_seconds"]] == [600.0, 6.0]
    last = found["seeds"][2]
    assert last["at"] == {
        "1000000": {"steps": 1_000_000, "return": 130, "distance": 0.5},
        "5000000": {"steps": 5_000_000, "return": 650, "distance": 2.5},
        "10000000": {"steps": 10_000_000, "return": 1300, "distance": 5.0},
        "20000000": {"steps": 20_000_000, "return": 2600, "distance": 10.0},
    }
    assert last["reached"] == {"steps": 12_000_000, "seconds": 120.0}  # 1,500 at 130 a generation
    assert last["curve"]["return"] == [130 * i for i in range(1, 21)]
    assert last["final"]["zero_policy_return"] == 100.0
    assert found["end"] == [pytest.approx(6800 / 3), 2000, 2600]
    assert found["zero"] == 100


def test_a_return_at_a_mark_is_of_the_last_test_before_it():
    seed = object.__new__(table_runs.Seed)
    seed.steps, seed.protocol = np.array([900_000, 4_999_999, 5_000_001]), {"steps": 6_000_000}
    seed.rows = [row(1, 100), row(2, 100) | {"test/diverged": 1}, row(3, 100)]
    assert seed.at(1_000_000) == {"steps": 900_000, "return": 100, "distance": 0.5}
    assert seed.at(5_000_000)["return"] is None  # it diverged
    assert seed.at(800_000) is None  # no test yet
    assert seed.at(20_000_000) is None  # beyond its budget


def cut_rows(path, keep):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:keep]))


BROKEN = {
    "not finished: 0001": lambda path: (path / "0001" / "final.json").unlink(),
    "end is None": lambda path: describe(path.parent, {"sweep": [[0, {}]] * 3}, None),
    "was cut or went on: 0001 has 19 rows": lambda path: cut_rows(
        path / "0001" / "metrics.jsonl", 19
    ),
    "was cut or went on: 0000 has 20 rows up to 20, not 25": lambda path: change(
        path / "0000" / "final.json", "result", "generation", to=25
    ),
    "has not spent its budget: 0002 has 19,000,001 of 20,000,000 steps": lambda path: shorten(
        path / "0002"
    ),
    "another protocol: 0002 has 23,000,000 steps": lambda path: overspend(path / "0002"),
    "environment is": lambda path: reconfigure(path, "environment", "options", {"healthy": 0}),
    "backend is 'mjx'": lambda path: reconfigure(path, "environment", "backend", "mjx"),
    "episode_length is 500": lambda path: reconfigure(path, "problem", "episode_length", 500),
    "test_episodes is 16": lambda path: reconfigure(path, "problem", "num_test_episodes", 16),
    "final_episodes is 32": lambda path: change(
        path / "0002" / "final.json", "result", "num_test_episodes", to=32
    ),
    "steps is 5000000": lambda path: change(path / "0002" / "final.json", "steps", to=5_000_000),
    "another protocol: its start is 'runs/a'": lambda path: begin(path / "0000"),
    "is no run of the table: KeyError('walker')": lambda path: reconfigure(
        path, "environment", "env_name", "walker"
    ),
    "has the seeds [0, 1, 1] of [0, 1, 2]": lambda path: copy(path / "0001", path / "0002"),
    "0002 has another config than 0000": lambda path: reconfigure(
        path, "strategy", "population_size", 32, seeds=[2]
    ),
    "is damaged": lambda path: change(path / "0001" / "run.json", "identity", "seed", to=7),
    "the test at the end of 0000 is of other rows": lambda path: shutil.copy(
        path / "0002" / "final.json", path / "0000"
    ),
    "the test at the end of 0001 is of other rows": lambda path: shutil.copy(
        path / "0002" / "metrics.jsonl", path / "0001"
    ),
    "0001 has another commit than 0000": lambda path: change(
        path / "0001" / "final.json", "commit", to="abd"
    ),
    "0001 has another machine than 0000": lambda path: change(
        path / "0001" / "final.json", "machine", "processor", to="another"
    ),
    "is no run of the table: KeyError('cores')": lambda path: change(
        path / "0001" / "final.json", "machine", to={"processor": "a processor"}
    ),
    "score of 0001 must be a finite number or null, got nan": lambda path: change(
        path / "0001" / "final.json", "result", "score", to=math.nan
    ),
    "zero_policy_return of 0001 must be a finite number or null, got 'high'": lambda path: change(
        path / "0001" / "final.json", "result", "zero_policy_return", to="high"
    ),
    "distance of 0001 must be a finite number or null, got inf": lambda path: change(
        path / "0001" / "final.json", "result", "measures", "distance", to=math.inf
    ),
    "score of 0001 must be a finite number or null, got True": lambda path: change(
        path / "0001" / "final.json", "result", "score", to=True
    ),
    "is no run of the table: TypeError": lambda path: change(
        path / "0001" / "final.json", "result", "measures", to=None
    ),
    "metrics.jsonl, line 3": lambda path: spoil(path / "0001" / "metrics.jsonl"),
}


def reconfigure(path, section, field, value, seeds=range(3)):
    """Writes the seeds' `run.json` anew."""
    for i in seeds:
        run = path / f"{i:04d}" / "run.json"
        config = json.loads(run.read_text())["identity"]["config"]
        config[section][field] = value
        run.unlink()
        describe(run.parent, {"seed": i, "config": config}, config)
        tie(run.parent)


def begin(path):
    """Says that a run began where another one was."""
    identity = json.loads((path / "run.json").read_text())["identity"]
    (path / "run.json").unlink()
    describe(path, identity | {"mean": "runs/a"}, identity["config"])


def copy(path, other):
    shutil.rmtree(other)
    shutil.copytree(path, other)


def shorten(path):
    """The last generation had a step alone."""
    *rows, last = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    last = last.replace(f'"rollout/env_steps": {EVERY}', '"rollout/env_steps": 1')
    (path / "metrics.jsonl").write_text("".join([*rows, last]))
    tie(path)


def overspend(path):
    """The last generation had four times the steps of others."""
    *rows, last = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    last = last.replace(f'"rollout/env_steps": {EVERY}', f'"rollout/env_steps": {4 * EVERY}')
    (path / "metrics.jsonl").write_text("".join([*rows, last]))
    tie(path)


def spoil(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{\n", *lines[3:]]))


@pytest.mark.parametrize("why", BROKEN)
def test_what_is_cut_or_of_another_protocol_is_named_and_left_out(tmp_path, collected, capsys, why):
    broken = write_runs(tmp_path / "runs" / "hopper" / "cem")
    write_runs(tmp_path / "runs" / "hopper" / "ars", algorithm="ars")
    BROKEN[why](broken / "trials")
    code, rows = collected()
    assert code == 1
    assert [each["algorithm"] for each in rows] == ["ars"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"left out: {broken} ")
    assert why in said


def test_another_number_of_seeds_and_what_is_no_sweep_over_them_is_left_out(
    tmp_path, collected, capsys
):
    runs = tmp_path / "runs"
    write_runs(runs / "hopper" / "cem", values=(100, 110))
    write_seed(runs / "alone", 0, 100)
    searched = write_runs(runs / "searched", algorithm="ars", first=1000)
    swept = runs / "swept"
    swept.mkdir()
    describe(swept, {"sweep": [[i, {"sigma": 0.1}] for i in range(3)]}, None)
    (runs / "empty" / "trials").mkdir(parents=True)
    assert collected() == (1, [])
    said = capsys.readouterr().err
    for why in ("alone is no sweep", "cem has 2 seeds, not 3", "swept is a sweep over more"):
        assert why in said
    assert f"{searched} has the seeds [1000, 1001, 1002], not 0 to 2" in said
    assert "holds no run" in said


def test_rows_stay_and_are_replaced_by_as_many_seeds_of_the_same_protocol_alone(
    tmp_path, collected, capsys
):
    runs = tmp_path / "runs"
    write_runs(runs / "a", values=(100, 110, 120, 130))
    write_runs(runs / "b", algorithm="ars", values=(100, 110, 120, 130))
    collected("--seeds", "4")
    (runs / "a").rename(tmp_path / "a")
    (runs / "b").rename(tmp_path / "b")
    write_runs(runs / "c", values=(300, 310, 320))
    code, rows = collected()
    assert code == 1
    there = "the row of hopper by {} that is there"
    assert f"has 3 seeds: {there.format('ars')} has 4" in capsys.readouterr().err
    (runs / "c").rename(tmp_path / "c")
    write_runs(runs / "d", values=(200, 210, 220, 230))
    write_runs(runs / "e", values=(200, 210, 220, 230))
    code, rows = collected("--seeds", "4")
    assert code == 1
    said = capsys.readouterr()
    assert "e is a second one of hopper by cem" in said.err
    assert "hopper by cem: 4300.0, in place of 2300.0 (changed: seeds, end)\n" in said.out
    assert "by ars" not in said.out  # which stays
    ends = {each["algorithm"]: table_rows.returns_of(each).tolist() for each in rows}
    assert ends == {"ars": [2000, 2200, 2400, 2600], "cem": [4000, 4200, 4400, 4600]}
    change(tmp_path / "table.json", "rows", 1, "protocol", "test_episodes", to=64)
    code, again = collected("--seeds", "4")
    assert code == 1
    assert f"d is of another protocol than {there.format('cem')}" in capsys.readouterr().err
    assert again[1]["protocol"]["test_episodes"] == 64


def test_rows_of_a_task_have_one_protocol_and_all_have_one_kind_of_device(
    monkeypatch, tmp_path, collected, capsys
):
    runs = tmp_path / "runs"
    trials = write_runs(runs / "cem") / "trials"
    for i in range(3):
        change(trials / f"{i:04d}" / "final.json", "steps", to=STEPS - EVERY // 2)
    collected("--steps", f"{STEPS - EVERY // 2}")
    (runs / "cem").rename(tmp_path / "cem")
    trials = write_runs(runs / "walking", task="walker2d") / "trials"
    for i in range(3):
        change(trials / f"{i:04d}" / "final.json", "machine", "device", to="a GPU")
    write_runs(runs / "ars", algorithm="ars")
    code, rows = collected()
    assert (code, len(rows)) == (1, 1)
    said = capsys.readouterr().err
    assert "ars is of another protocol than the row of hopper by cem that is there" in said
    assert "is of a GPU, and the row of hopper by cem that is there of cpu: choose another" in said


def test_where_nothing_is_collected_nothing_is_written(monkeypatch, tmp_path):
    output = tmp_path / "table.json"
    said = command(monkeypatch, "collect", tmp_path / "none", "--output", output)
    assert said == f"runs: {tmp_path / 'none'} holds no runs"
    trials = write_runs(tmp_path / "cut") / "trials"
    (trials / "0000" / "final.json").unlink()
    assert command(monkeypatch, "collect", tmp_path, "--output", output, "--seeds", 3) == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train", "--tasks", "hoper"], "no 'hoper'; there are inverted_pendulum"),
        (["train", "--strategies", "cem,aars"], "no 'aars'; there are cem, cma_es"),
        (["search", "--networks", "mlp"], "no 'mlp'; there are linear"),
        (["collect", "runs", "--seeds", "0"], "must be a whole number, at least 1, got 0"),
        (["film", "runs", "--seeds", "3"], "unrecognized arguments: --seeds"),
        (["train", "--steps", "-5"], "must be a whole number, at least 1, got -5"),
    ],
)
def test_names_that_there_are_not_are_refused_first(monkeypatch, capsys, arguments, why):
    assert command(monkeypatch, *arguments) == 2
    assert why in capsys.readouterr().err


def drawn(tmp_path, collected, runs):
    """The lines of the table, by what they begin with."""
    for name, more in runs.items():
        write_runs(tmp_path / "runs" / name, algorithm=name, **more)
    _, rows = collected()
    text = table_text.drawn({"rows": rows, "searches": []}, "table.json")
    section = text.partition("## hopper\n")[2].partition("\n## ")[0]
    return text, {line.split(" | ")[0].strip("| "): line for line in section.splitlines()[::-1]}


def test_the_table_marks_who_stands_still_and_what_was_not_run(tmp_path, collected):
    runs = {
        "cem": {"values": (3, 4, 6)},
        "ars": {"distance": -5.0},
        "openai_es": {"values": (200, 210, 230)},
    }
    text, lines = drawn(tmp_path, collected, runs)
    assert "not above the zero policy" in lines["cem"]
    assert "3 of 3 do not move on" in lines["ars"]
    assert "zero policy" not in lines["ars"]
    # Steps of an episode; of seeds to the threshold and to the end
    assert (
        lines["openai_es"]
        .rstrip()
        .endswith("| 1,000 | 7.67 (7.00 to 8.00) | 76.7 (70.0 to 80.0) | 200 | 3 |  |")
    )
    assert lines["zero policy"].split(" | ")[5] == "100 (100 to 100)"
    assert lines["pgpe"].count("not run") == 11
    assert "213 (200 to 230), 0.5 m" in lines["openai_es"]  # at 1 M, of three seeds all count
    assert "0 of 3" in lines["cem"]
    _, _, ant = text.partition("## ant\n")
    assert next(line for line in ant.splitlines() if "zero policy" in line).count("not run") == 1


def test_the_zero_policy_counts_once_a_seed(tmp_path, collected):
    runs = {"cem": {}, "ars": {}}
    for name in runs:
        write_runs(tmp_path / "runs" / name, algorithm=name)
        for i, value in enumerate((100.0, 110.0, 150.0)):
            final = tmp_path / "runs" / name / "trials" / f"{i:04d}" / "final.json"
            change(final, "result", "zero_policy_return", to=value)
    _, rows = collected()
    thrice = table_text.Interval.of([100.0, 110.0, 150.0])
    assert table_text.zero_policy(rows) == thrice
    assert thrice.low == 100 < thrice.high == 150


def test_a_seed_that_diverged_leaves_no_interval_and_no_claim(tmp_path, collected):
    runs = {"cem": {"values": (100, 110, 130)}, "ars": {"values": (10, 20, 30)}, "pgpe": {}}
    for name, more in runs.items():
        write_runs(tmp_path / "runs" / name, algorithm=name, **more)
    final = tmp_path / "runs" / "pgpe" / "trials" / "0001" / "final.json"
    for name in ("score", "return_mean", "episode_length"):
        change(final, "result", name, to=None)
    _, rows = collected()
    text = table_text.drawn({"rows": rows, "searches": []}, "table.json")
    assert "1 diverged, so that there is no interval |" in text
    assert "At the end cem is ahead of ars. Not compared, since seeds diverged: pgpe." in text
    assert "not above the zero policy" not in text


def test_nobody_is_said_to_be_ahead_where_intervals_overlap(tmp_path, collected):
    runs = {
        "cem": {"values": (100, 110, 130)},
        "ars": {"values": (90, 120, 140)},
        "openai_es": {"values": (10, 20, 30)},
    }
    text, _ = drawn(tmp_path, collected, runs)
    assert (
        "end ars is ahead of openai_es. As they are printed, the intervals of ars and of cem are"
        in text
    )
    best = {"snes": {"values": (300, 310, 330)}}
    text, lines = drawn(tmp_path, collected, best)
    assert "At the end snes is ahead of ars, cem, openai_es." in text
    assert "| 3 |  |" in lines["snes"]  # of which the table has no settings


def test_intervals_are_apart_as_they_are_printed():
    close = [
        table_text.Interval(9343.3, low, high) for low, high in ((9343.3, 9343.4), (9343, 9343.2))
    ]
    assert not close[0].is_above(close[1])
    assert table_text.Interval(9345, 9344, 9346).is_above(close[0])
    assert not close[0].is_above(table_text.Interval(1, math.nan, math.nan))


def test_nothing_is_ahead_where_there_are_two_seeds(tmp_path, collected):
    for name, values in (("cem", (100, 110)), ("ars", (10, 20))):
        write_runs(tmp_path / "runs" / name, algorithm=name, values=values)
    _, rows = collected("--seeds", "2")
    text = table_text.drawn({"rows": rows, "searches": []}, "table.json")
    assert "Of fewer than 3 seeds nothing is said to be ahead." in text
    assert "is ahead of" not in text


def test_another_budget_than_the_tasks_is_remarked(tmp_path, collected):
    write_runs(tmp_path / "runs" / "cem", task="halfcheetah")
    _, rows = collected("--steps", f"{STEPS}")
    text = table_text.drawn({"rows": rows, "searches": []}, "table.json")
    assert "| 3 | a budget of 20 M steps |" in text


def test_what_is_no_result_is_refused_in_a_line(monkeypatch, tmp_path):
    path = tmp_path / "table.json"
    assert command(monkeypatch, "draw", path) == f"{path}: there is no such file"
    path.write_text("{}")
    assert "table.json is damaged: ValueError: its machine is None" in command(
        monkeypatch, "draw", path
    )


def test_places_and_settings_that_there_are_not_are_named_before_anything_is_run(
    monkeypatch, tmp_path
):
    write_runs(tmp_path / "runs" / "cem")
    none, output = tmp_path / "none", tmp_path / "table.json"
    collects = ["collect", tmp_path / "runs", "--seeds", 3, "--output", output]
    strategies = ["--strategies", "cem,sep_cma_es", "--runs", tmp_path]
    monkeypatch.setattr(table, "train", lambda *_: pytest.fail("it has begun"))
    for arguments, why in [
        (["film", none], f"runs: {none} holds no runs"),
        ([*collects, "--searches", none], f"--searches: {none} holds no runs"),
        ([*collects, "--whole", none], f"No such file or directory: '{none}/whole.json'"),
        (["train", "--tasks", "hopper", *strategies], "hopper has settings of cem"),
    ]:
        assert why in command(monkeypatch, *arguments)
    about = {"backend": "positional", "steps": 2_000_000, "returns": [1000.0, "a"]}
    (tmp_path / "whole.json").write_text(json.dumps(about))
    said = command(monkeypatch, *collects, "--whole", tmp_path)
    assert "whole.json is damaged: a return must be a finite number or null, got 'a'" in said
    assert not output.exists()


def test_a_seed_that_diverged_on_the_way_is_told_at_the_mark(tmp_path, collected):
    write_runs(tmp_path / "runs" / "cem")
    _, (row,) = collected()
    row["seeds"][1]["at"]["5000000"]["return"] = None
    text = table_text.drawn({"rows": [row], "searches": []}, "table.json")
    assert "| cem | 113 (100 to 130), 0.5 m | 1 diverged | 1,133" in text


@pytest.mark.parametrize(("end", "is_whole"), [(990.0, True), (750.0, False), (None, False)])
def test_ppo_is_said_not_to_be_shown_whole_unless_it_is(tmp_path, collected, end, is_whole):
    write_runs(tmp_path / "runs" / "ppo", algorithm="ppo")
    about = {"backend": "positional", "steps": 2_000_000, "returns": [1000.0, 1000.0, end]}
    (tmp_path / "whole.json").write_text(json.dumps(about))
    collected("--whole", str(tmp_path))
    collected()
    result = table_rows.read(tmp_path / "table.json")  # in which it stays
    text = table_text.drawn(result, "table.json")
    assert text.count("not shown to be whole") == (not is_whole)
    said = (
        "positional, it comes to 997 (990 to 1,000) on inverted_pendulum after 2.0 M steps, 3 seeds"
    )
    assert (said in text) == is_whole


SETTINGS = {  # of a row
    "policy": {"name": "mlp", "hidden": [16, 16]},
    "problem": {"alive_penalty": 1.0},
    "population_size": 64,
    "numbers": {"sigma": 0.1, "noise": 0.0},
}


def search_of(**more):
    """A row of what a search cost, as `table_search.cost_of` makes it."""
    found = {"id": "a", "task": "hopper", "algorithm": "cem", "network": "mlp16"}
    found["settings"] = {name: SETTINGS[name] for name in ("policy", "problem", "population_size")}
    found["tried"] = [SETTINGS["numbers"] | {"sigma": sigma} for sigma in (0.1, 0.3)]
    return found | {"seeds": [1000, 1001], "env_steps": 2e6, "seconds": 100.0} | more


def test_only_settings_that_a_search_tried_are_said_to_be_found_by_it():
    linear = search_of(settings=search_of()["settings"] | {"policy": {"name": "linear"}}, id="b")
    said = "4 settings x 2 seeds, 4.0 M steps, 200 s"
    assert table_search.found_by(SETTINGS, "hopper", [search_of(), linear]) == said
    of_three = linear | {"seeds": [1000, 1001, 1002]}
    of_five = linear | {"seeds": list(range(1000, 1005))}
    searches = [search_of(), of_three, of_five]
    assert "settings x 2 to 5 seeds," in table_search.found_by(SETTINGS, "hopper", searches)
    assert table_search.found_by(SETTINGS, "hopper", []) == "given"
    for other in (
        {"population_size": 32},
        {"problem": {"alive_penalty": 0.0}},
        {"numbers": {"sigma": 0.2, "noise": 0.0}},
        {"numbers": {"sigma": 0.1, "noise": 0.1}},
    ):
        said = table_search.found_by(SETTINGS | other, "hopper", [search_of()])
        assert said == "given; searched here: 2 settings x 2 seeds, 2.0 M steps, 100 s"
    elsewhere = [search_of(task="ant"), linear]
    said = table_search.found_by(SETTINGS, "hopper", elsewhere)
    assert said == "tried on ant; searched here: 2 settings x 2 seeds, 2.0 M steps, 100 s"


def write_search(path, first=1000):
    """What a search over two settings with two seeds leaves."""
    settings = [(first + i % 2, {"sigma": sigma}) for i, sigma in enumerate([0.1, 0.1, 0.3, 0.3])]
    path.mkdir(parents=True)
    describe(path, {"sweep": settings}, None)
    note_end(path, "done", None)
    results = []
    for i, (seed, values) in enumerate(settings):
        trial = path / "trials" / f"{i:04d}"
        write_seed(trial, seed, 100 * (i + 1))
        told = json.loads((trial / "final.json").read_text())["result"]
        about = {
            "trial": i,
            "seed": seed,
            "env_steps": STEPS,
            "seconds": 10.0,
            "num_diverged": 0,
            "status": "done",
            **values,
        }
        results.append({name: told.get(name, 0) for name in COLUMNS} | about)
    write_tables(path, results)
    return path


def test_what_searches_cost_is_kept_by_their_directories(tmp_path):
    known = [search_of()]
    write_search(tmp_path / "linear")
    write_search(tmp_path / "its_seeds", first=0)
    (write_search(tmp_path / "cut") / "results.csv").write_text("")
    rows, refused = table_search.collected(table_runs.directories(tmp_path), known)
    assert [row["network"] for row in rows] == ["linear", "mlp16"]
    assert rows[0]["tried"] == [{"sigma": 0.1}, {"sigma": 0.3}]
    assert rows[0]["settings"] == search_of()["settings"]
    assert table_search.collected(table_runs.directories(tmp_path), rows)[0] == rows
    assert (rows[0]["env_steps"], rows[0]["seconds"]) == (4 * STEPS, 40.0)
    assert rows[0]["best"][0] == {"network": "linear", "setting": "sigma=0.3", "return": 7000.0}
    assert "has seeds of the table: [0, 1]" in refused[str(tmp_path / "its_seeds")]
    assert str(tmp_path / "cut") in refused


def test_a_film_is_shown_while_it_is_of_the_best_seed(tmp_path, collected):
    write_runs(tmp_path / "runs" / "cem")
    _, rows = collected()
    film = {"file": "hopper.mp4", "algorithm": "cem", "seed": 2, "return": 2600}
    result = {"rows": rows, "searches": [], "films": {"hopper": film}}
    assert "best seed (cem, seed 2, a mean of 2,600) begins" in table_text.drawn(result, "a.json")
    result["films"]["hopper"] = film | {"return": 2500}
    assert "video" not in table_text.drawn(result, "a.json")
    result["films"]["hopper"] = film
    for seed in rows[0]["seeds"]:
        seed["final"]["score"] = None
    assert "video" not in table_text.drawn(result, "a.json")


def test_a_film_is_of_the_run_whose_row_it_is_and_replaces_another_when_it_is_there(
    tmp_path, collected, monkeypatch
):
    runs, films = tmp_path / "runs", tmp_path / "films"
    final = write_runs(runs / "hopper" / "cem") / "trials" / "0002" / "final.json"
    _, rows = collected()
    films.mkdir()
    (films / "hopper.mp4").write_text("an old one")
    monkeypatch.setattr(jaxes, "render", lambda run, film, **_: film.write_text(run.name))
    shown = table_films.filmed("hopper", rows, runs, films)
    assert shown == {"file": "hopper.mp4", "algorithm": "cem", "seed": 2, "return": 2600}
    assert (films / "hopper.mp4").read_text() == "0002"
    assert table_films.filmed("ant", rows, runs, films) is None

    def fails(run, film, **_):
        raise RuntimeError

    monkeypatch.setattr(jaxes, "render", fails)
    with pytest.raises(RuntimeError):
        table_films.filmed("hopper", rows, runs, films)
    assert [film.name for film in films.iterdir()] == ["hopper.mp4"]
    change(final, "result", "score", to=2601)
    assert table_films.filmed("hopper", rows, runs, films) is None


def test_a_trial_ends_at_its_first_test_after_the_budget_whatever_is_written_already(tmp_path):
    write_runs(tmp_path / "runs", values=(100,))
    budget = table_train.Budget(tmp_path / "runs", 5 * EVERY)
    ends = [budget(row(i, 100) | {"trial": 0}, None) for i in range(1, 8)]
    assert ends == [False] * 4 + [True] * 3
    untested = {"generation": 9, "trial": 0}
    assert not budget(untested, None)


def test_a_finished_sweep_of_other_settings_is_no_other_ones(tmp_path):
    problem = jaxes.problems.functions.sphere(3)
    run = partial(jaxes.cem, 16, noise=0.1)
    jaxes.sweep(
        problem,
        run(),
        {"sigma": [0.1, 1.0]},
        num_seeds=2,
        num_generations=2,
        run_dir=tmp_path / "a",
    )
    same = partial(table_train.check_settings, tmp_path / "a", problem)
    same(run(), 2, {"sigma": [0.1, 1.0]})
    for strategy, seeds, grid, why in [
        (jaxes.cem(16, noise=0.2), 2, {"sigma": [0.1, 1.0]}, "strategy.cem.noise"),
        (run(), 3, {"sigma": [0.1, 1.0]}, "grid, seeds"),
        (run(), 2, {"sigma": [0.1, 2.0]}, "grid, seeds"),
    ]:
        with pytest.raises(SystemExit, match=f"{why}.* choose another --runs"):
            same(strategy, seeds, grid)


def test_settings_are_told_with_their_words():
    (row,) = [each for each in ROWS if (each["task"], each["algorithm"]) == ("hopper", "openai_es")]
    numbers = row["settings"]["numbers"] | {"sampling": "block", "source": "a paper"}
    text = table_text.settings_table(
        "hopper", {"a": row | {"settings": row["settings"] | {"numbers": numbers}}}, []
    )
    assert "learning_rate 0.02, weight_decay 0, optimizer adam, " in text
    assert "sampling block, alive_penalty 1 | a paper |" in text
    assert "chunk_size" not in text


def test_settings_are_of_strategies_that_there_are():
    for task, strategies in table_settings.SETTINGS.items():
        assert task in table_settings.TASKS
        assert {"cem", "openai_es", "ars", "pgpe"} < strategies.keys()
        for name, settings in strategies.items():
            strategy = table_settings.strategy_of(name, settings)
            assert set(table_settings.GRIDS[name]) <= strategy.hparams._asdict().keys()


def test_what_pages_cite_is_of_the_seeds():
    for row in ROWS:
        assert row["end"] == [finite(value) for value in table_text.end(row)]
        assert row["zero"] == finite(table_text.zero_policy([row]).middle)


def test_the_words_of_the_readme_are_those_of_the_rows():
    readme = (ROOT / "README.md").read_text()
    told = re.findall(
        r"^\| (\w+) \| `(\w+)`, (\w+)(?: \((.*?)\))?(?:, (\w+) directions)? \| ([\d.]+) M \|"
        r".*table-cpu\.json; rows\[\?task=='(\w+)'&&algorithm=='(\w+)'\]",
        readme,
        re.MULTILINE,
    )
    assert len(told) == len(re.findall(r"^\|.*table-cpu\.json", readme, re.MULTILINE)) > 0
    for task, algorithm, policy, hidden, directions, steps, *cited in told:
        assert cited == [task, algorithm]
        (row,) = [each for each in ROWS if (each["task"], each["algorithm"]) == (task, algorithm)]
        said = row["settings"]["policy"]
        assert (policy, hidden) == (said["name"], ", ".join(map(str, said.get("hidden") or [])))
        default = inspect.signature(jaxes.STRATEGIES[algorithm]).parameters["sampling"].default
        assert (directions or default) == row["settings"]["numbers"]["sampling"]
        assert float(steps) == round(row["protocol"]["steps"] / 1e6, 1)
        assert len(row["seeds"]) == 5
