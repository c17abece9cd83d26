"""Configs are what was run: their first lines say what the rows of `benchmarks/configs.py` say."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import configs

RUN = """environment: {name: pendulum}
problem: {episode_length: 10, num_test_episodes: 4, normalize_observations: false}
policy: {name: linear}
strategy: {name: cem, population_size: 4, cem: {elite_fraction: 0.5}}
training: {num_generations: 2}
"""
SWEEP = """problem: {name: sphere, num_dims: 3}
strategy: {name: cem, population_size: 16}
training: {num_generations: 3}
sweep: {grid: {strategy.cem.sigma: [0.1, 1.0]}, num_seeds: 2}
"""
PLAN = """environment: {name: pendulum}
planner: {horizon: 2, strategy: {name: cem, population_size: 4, cem: {elite_fraction: 0.5}}}
model: {name: true_model}
training: {num_trials: 2, episode_length: 5, num_test_episodes: 2}
"""
ROW = {
    "name": "hopper",
    "command": "jaxes train configs/hopper.yaml",
    "words": "train",
    "return_mean": 1883.4,
    "interval": [1700.0, 2066.8],
    "zero_policy_return": 990.25,
    "test_episodes": 100,
    "test_diverged": 0,
    "rounds": 1000,
    "env_steps": 21_040_000,
    "seconds": 174.4,
    "seconds_with_compilation": 203.0,
    "machine": {"processor": "AMD EPYC", "cores": 2, "device": "cpu", "devices": 1},
}
SPENT = "after 1,000 generations and 21.0 M steps in 174 s, 203 s with compilation"

HERE = "on 2 cores of AMD EPYC"


def test_first_lines_are_those_of_the_rows_and_rows_are_of_these_configs():
    assert configs.faults(configs.rows_of_all()) == []


def test_rows_hold_the_words_that_they_render():
    for row in configs.rows_of_all():
        assert row["came_to"] == configs.came_to(row)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            f"Return 1,883.4 (1,700.0 to 2,066.8, zero policy 990.2) {SPENT}, {HERE}",
        ),
        ({"interval": None}, f"Return 1,883.4 (zero policy 990.2) {SPENT}, {HERE}"),
        (
            {"interval": None, "status": "target"},
            f"Return 1,883.4 (zero policy 990.2), target reached {SPENT}, {HERE}",
        ),
        ({"return_mean": None}, f"Diverged {SPENT}, {HERE}"),
        (
            {"test_diverged": 3, "machine": {"device": "NVIDIA H200", "devices": 1}},
            "Return 1,883.4 (1,700.0 to 2,066.8, zero policy 990.2), 3 of 100 test episodes "
            f"diverged {SPENT}, on 1 x NVIDIA H200",
        ),
        (
            {"words": "plan", "rounds": 5, "env_steps": 1000, "interval": [None, None]},
            "Return 1,883.4 (zero policy 990.2) after 5 trials and 1,000 steps in 174 s, "
            f"203 s with compilation, {HERE}",
        ),
        (
            {"words": "tetris", "zero_policy_return": 0.0},
            "1,883.4 lines a game (1,700.0 to 2,066.8, zero policy 0) after 1,000 generations and "
            f"21.0 M pieces in 174 s, 203 s with compilation, {HERE}",
        ),
        (
            {"words": "sweep", "configurations": 12, "seeds": 4},
            "Best of 12, 4 seeds each: return 1,883.4 (1,700.0 to 2,066.8, zero policy 990.2) "
            f"{SPENT}, {HERE}",
        ),
    ],
    ids=["train", "one test", "target", "diverged", "GPU", "plan", "tetris", "sweep"],
)
def test_a_line_says_what_was_reached_in_how_much_where(changes, said):
    text = configs.came_to(ROW | changes)
    assert text == said
    match = configs.FIRST_LINE.fullmatch(f"# One leg hops. {text}.")
    assert match.groups() == ("One leg hops", text)
    assert not configs.NOT_RUN.fullmatch(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of two configs, of which one needs a GPU."""
    monkeypatch.setattr(configs, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(configs, "RESULTS", tmp_path)
    monkeypatch.setenv(configs.PREALLOCATE, "false")
    configs.CONFIGS.mkdir()
    write("tiny", f"# A task. Not run: not measured yet.\n{RUN}")
    write("large", f"# Another task. Not run: needs a GPU.\n{RUN}")
    return tmp_path


def write(name, text):
    configs.path_of(name).write_text(text)


def first_line(name):
    return configs.path_of(name).read_text().partition("\n")[0]


def rows():
    return configs.machine.rows_of(configs.RESULTS / "configs-cpu.json")


def main(*arguments):
    """The script's exit code."""
    try:
        configs.main(arguments)
    except SystemExit as end:
        return end.code
    return 0


def test_a_config_is_run_told_and_run_again_once_it_has_changed(folder, capfd, monkeypatch):
    assert configs.faults(configs.rows_of_all()) == []  # before all
    assert main() == 0
    (row,) = rows()  # none of what needs a GPU
    assert (row["name"], row["command"]) == ("tiny", "jaxes train configs/tiny.yaml")
    assert (row["rounds"], row["env_steps"], row["test_episodes"]) == (2, 2 * 4 * 10, 4)
    low, high = row["interval"]
    assert low < row["return_mean"] < high < 0
    assert row["zero_policy_return"] < 0
    assert 0 < row["seconds"] < row["seconds_with_compilation"] < row["process_seconds"]
    assert row["machine"]["devices"] >= 1  # of the run's process
    assert {"processor", "cores", "jax", "jaxes", "brax"} <= row["machine"].keys()
    assert f"tiny: {row['came_to']}\n" in capfd.readouterr().out

    differs = "tiny: its first line says something else than its row: --write-lines"
    assert configs.faults(rows()) == [differs]
    assert main("--write-lines") == 0
    assert configs.path_of("tiny").read_text() == f"# A task. {row['came_to']}.\n{RUN}"
    assert first_line("large") == "# Another task. Not run: needs a GPU."
    assert configs.faults(rows()) == []
    write("tiny", f"# The same, reworded. {row['came_to']}.\n{RUN}")
    assert configs.faults(rows()) == []
    with monkeypatch.context() as patch:  # neither is it made again, nor is it another config
        patch.setattr(configs, "measure", lambda name: pytest.fail(f"{name} is run again"))
        assert main() == 0
    assert rows() == [row]

    write("tiny", f"# A task. {row['came_to']}.\n{RUN.replace('10', '20')}")
    assert configs.faults(rows()) == ["tiny: is another config than was run: --configs tiny"]
    assert main("--write-lines") == 0
    assert "tiny: another config than was run, left as it is" in capfd.readouterr().err
    monkeypatch.setattr(
        configs, "measure", lambda name: row | {"sha256": configs.read(name).sha256}
    )
    assert main("--configs", "tiny") == 0
    assert configs.faults(rows()) == []
    assert len(rows()) == 1  # in place of the old one


@pytest.mark.parametrize(
    ("first", "fault"),
    [
        ("# A task. Return 9.", "tiny: has no row, so that its line must say 'Not run: REASON'"),
        ("# A task. Not run: .", "tiny: has no row, so that its line must say 'Not run: REASON'"),
        ("# A task. Not run: takes days.", None),
    ],
)
def test_a_config_without_a_row_says_why(folder, first, fault):
    write("tiny", f"{first}\n{RUN}")
    assert configs.faults([]) == [fault] * (fault is not None)


def test_a_row_of_no_config_and_a_line_of_another_form_are_faults(folder):
    assert configs.faults([ROW]) == ["hopper: a row of no config"]
    write("tiny", f"# A task\n{RUN}")
    with pytest.raises(ValueError, match=r"tiny: the first line must be .*, got '# A task'"):
        configs.faults([])


def test_what_ran_on_a_gpu_is_not_run_on_a_cpu_though_its_line_tells_a_result(folder):
    about = {"device": "NVIDIA H200", "devices": 1}
    row = ROW | {"name": "large", "sha256": configs.read("large").sha256, "machine": about}
    row |= {"came_to": configs.came_to(row)}
    (folder / "configs-gpu.json").write_text(json.dumps({"rows": [row]}))
    configs.write_lines([row])
    assert first_line("large") == f"# Another task. {row['came_to']}."
    assert configs.faults(configs.rows_of_all()) == []
    assert configs.runs_on("cpu") == ["tiny"]
    assert configs.runs_on("gpu") == ["large", "tiny"]


def test_what_cannot_be_run_is_told(folder, capfd):
    assert main("--configs", "tiny,tinny") == 2
    assert "--configs: no 'tinny'; there are large, tiny" in capfd.readouterr().err
    write("tiny", f"# A task. Not run: not measured yet.\n{RUN.replace('linear', 'lineal')}")
    assert main() == 1
    err = capfd.readouterr().err
    assert "unknown value 'lineal'" in err
    assert err.endswith("jaxes train configs/tiny.yaml ended with code 2\n")
    assert rows() == []


@pytest.mark.slow
def test_sweeps_and_planners_are_run_as_well(folder):
    write("grid", f"# A sweep. Not run: not measured yet.\n{SWEEP}")
    write("plan", f"# A plan. Not run: not measured yet.\n{PLAN}")
    assert main("--configs", "plan,grid") == 0
    grid, plan = rows()  # by their names
    assert grid["command"] == "jaxes sweep configs/grid.yaml"
    assert (grid["configurations"], grid["seeds"], grid["rounds"]) == (2, 2, 3)
    assert grid["best"].keys() == {"strategy.cem.sigma"}
    assert grid["came_to"].startswith("Best of 2, 2 seeds each: return -")
    assert 0 < grid["seconds"] < grid["seconds_with_compilation"]
    assert plan["command"] == "jaxes plan configs/plan.yaml"
    assert (plan["rounds"], plan["env_steps"]) == (2, 10)
    assert " after 2 trials and 10 steps in " in plan["came_to"]
    assert json.loads((folder / "configs-cpu.json").read_text())["machine"]["device"] == "cpu"
