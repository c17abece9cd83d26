"""Watching: what is shown of a run that another process writes."""

import fcntl
import json

import pytest
from written_runs import append, row, rows_of, write_run, write_sweep

from jaxes import cli
from jaxes.cli import watch
from jaxes.report.watch import Watched
from jaxes.terminal import format_bytes
from jaxes.training import followed
from jaxes.training.directory import locked


def test_a_look_takes_up_what_a_run_has_grown_by(tmp_path):
    path = write_run(tmp_path / "run", result={"zero_policy_return": 0.25})
    watched = Watched(path)
    told, trials, new, can_go_on = watched.look()
    assert (told["generation"], told["last row"]) == ("0/10", "none yet")
    assert (trials, new, can_go_on) == ([], True, True)
    append(path, [row(1), row(2, test=3.0)])
    told, _, new, _ = watched.look()
    assert new
    assert told["generation"] == "2/10"
    assert told["return"] == "1"
    assert told["test"] == "3 ± 1"
    assert told["zero policy"] == "0.25"
    assert told["steps/s"] == "2,000.0"
    assert told["last row"] == "0 s ago"
    assert told["disk"].endswith("kB")
    assert not watched.look().new


def test_a_torn_line_waits_for_its_end(tmp_path):
    path = write_run(tmp_path / "run", [row(1)])
    watched = Watched(path)
    watched.look()
    line = json.dumps(row(2)) + "\n"
    with (path / "metrics.jsonl").open("a") as file:
        file.write(line[:20])
    look = watched.look()
    assert (look.told["generation"], look.new) == ("1/10", False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(line[20:])
    assert watched.look().told["generation"] == "2/10"
    with (path / "metrics.jsonl").open("a") as file:
        file.write("no row\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1 after byte \d+: no row"):
        watched.look()


def test_a_directory_that_is_claimed_but_empty_is_waited_for(tmp_path):
    assert Watched(tmp_path).look().told == {"generation": "nothing is written yet"}


SWEEP = [
    ({"sigma": 0.1}, 0, [1.0, 2.0]),
    ({"sigma": 0.1}, 1, [1.0, 3.0]),
    ({"sigma": 0.2}, 0, [5.0, 6.0]),
    ({"sigma": 0.2}, 1, [5.0, 4.0]),
    ({"sigma": 0.3}, 0, [None, 1.0]),
    ({"sigma": 0.3}, 1, [9.0]),
]


@pytest.mark.parametrize(
    ("halving", "going"),
    [
        (None, 6),
        ({"generations": [2], "keep": 0.34}, 2),  # only sigma=0.2 has no seed that diverged, and 5
        ({"generations": [2, 4], "keep": 0.67}, 2),
        ({"generations": [6], "keep": 0.5}, 6),  # not there yet
    ],
)
def test_a_sweep_tells_who_leads_and_how_many_go_on(tmp_path, halving, going):
    trials = [(values | {"same": 7}, seed, tests) for values, seed, tests in SWEEP]
    path = write_sweep(tmp_path / "sweep", trials, finished=False, halving=halving)
    told, trials, _, can_go_on = Watched(path).look()
    assert told["generation"] == "4/10"
    assert told["leader"] == "trial 5 (sigma=0.3)"
    assert told["test"] == "9 ± 1"
    assert told["go on"] == f"{going} of 6"
    assert can_go_on
    columns = {column.name: column.cells for column in trials}
    assert columns["trial"] == ["5", "2", "3", "1", "0", "4"]
    assert columns["test"][1] == "6 ± 1"
    assert columns["status"].count("dropped") == 6 - going


def test_a_trial_ends_at_its_last_generation_at_its_target_or_by_its_callback(tmp_path):
    path = write_run(tmp_path / "run", rows_of([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert not Watched(path).look().can_go_on
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("num_generations: 10", "num_generations: 20"))
    assert Watched(path).look().can_go_on
    (path / "config.yaml").write_text(text.replace("training:", "training:\n  target_return: 5"))
    assert not Watched(path).look().can_go_on
    (path / "config.yaml").write_text(text.replace("10", "20"))
    (path / "stopped.json").write_text("10")
    assert not Watched(path).look().can_go_on


def test_only_a_lock_that_is_held_counts(tmp_path):
    assert followed.is_running(tmp_path) is False
    with locked(tmp_path / "lock", tmp_path):
        assert followed.is_running(tmp_path)
    assert followed.is_running(tmp_path) is False
    with locked(tmp_path / "lock", tmp_path, fcntl.LOCK_SH):  # by a trial that is resumed alone
        assert followed.is_running(tmp_path) is False
    trial = tmp_path / "trials" / "0000"
    trial.mkdir(parents=True)
    with locked(tmp_path / "lock", tmp_path):
        assert followed.is_running(trial)


def test_where_the_platform_cannot_tell_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(followed, "LOCKS", tmp_path / "nowhere")
    assert followed.is_running(tmp_path) is None


def test_watch_ends_with_the_run(tmp_path, monkeypatch, capsys):
    path = write_run(tmp_path / "run", [row(1, test=1.0)])
    answers = iter([True, True, True, False])
    monkeypatch.setattr(watch, "is_running", lambda path: next(answers))
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(watch, "sleep", lambda _: append(path, [row(2)]))
    before = {file: file.read_bytes() for file in path.iterdir() if file.name != "metrics.jsonl"}
    assert cli.main(["watch", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == ["generation 1/10"] + 2 * [
        "generation 2/10"
    ]
    assert lines[-1] == f"no process runs it; go on with: jaxes resume {path}"
    assert before.keys() == {file for file in path.iterdir() if file.name != "metrics.jsonl"}


def test_watch_ends_by_ctrl_c_and_looks_once(tmp_path, monkeypatch, capsys):
    path = write_sweep(tmp_path / "sweep", SWEEP, finished=False)
    with locked(path / "lock", path):
        assert cli.main(["watch", str(path), "--once"]) == 0
        said = capsys.readouterr().out
        assert "leader trial 5 (sigma=0.3)" in said
        assert "9 ± 1" in said
        assert "no process" not in said

        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(watch, "sleep", interrupt)
        assert cli.main(["watch", str(path)]) == 130


def test_what_is_no_run_is_refused_by_a_line(tmp_path, capsys):
    for path, said in [
        (tmp_path / "none", "run: there is no directory"),
        (tmp_path, "holds no run (no run.json in it)"),
    ]:
        assert cli.main(["watch", str(path)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_sizes_are_in_the_unit_that_a_person_reads():
    assert [format_bytes(count) for count in (0, 999, 1500, 2.5e6, 3e12)] == [
        "0 B", "999 B", "1.5 kB", "2.5 MB", "3 TB",
    ]  # fmt: skip
