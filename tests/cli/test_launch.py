"""`jaxes launch` and `--resume`: what they refuse, and where a run goes on or begins."""

import pytest

from jaxes import cli

SPHERE = """
problem: {name: sphere, num_dims: 4}
strategy: {name: cma_es, population_size: 8}
training: {num_generations: 3}
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sphere.yaml").write_text(SPHERE)
    return tmp_path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


TRAIN = ("--", "train", "sphere.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", 2), "the command after -- must be one of train, sweep, resume, got ''"),
        (("-n", 2, "--"), "the command after -- must be one of train, sweep, resume, got ''"),
        (("-n", 2, "--", "plan", "x.yaml"), "must be one of train, sweep, resume, got 'plan'"),
        (("-n", 2, "--", "launch", "-n", 2), "got 'launch'"),
        (("-n", 2, *TRAIN, "--hosts", "off"), "--hosts must be left out after --"),
        (("-n", 2, *TRAIN, "--hosts=off"), "--hosts must be left out after --"),
        (("-n", 2, *TRAIN, "--cpu-devices", 2), "--cpu-devices must be left out after --"),
        (("-n", 2, *TRAIN, "--cpu-devices=2"), "--cpu-devices must be left out after --"),
        (("-n", 2, "--restarts", 1, *TRAIN), "--restarts must be with --run-dir after --"),
        (
            ("-n", 2, "--restarts", 1, "--", "sweep", "sphere.yaml"),
            "--restarts must be with --run-dir after --",
        ),
        (("-n", 2, "--restarts", -1, *TRAIN), "--restarts must be a whole number of at least 0"),
        (("-n", 0, *TRAIN), "-n must be a whole number of at least 1"),
        (("-n", 1025, *TRAIN), "-n must be a whole number of at least 1 and at most 1024"),
        (("-n", 2, "--cpu-devices", 0, *TRAIN), "--cpu-devices must be a whole number"),
    ],
)
def test_launch_refuses_in_one_line_before_it_starts_anything(
    arguments, message, capsys, workplace, monkeypatch
):
    monkeypatch.setattr("jaxes.hosts.launch.subprocess.Popen", None)
    assert run("launch", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxes: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in workplace.iterdir()] == ["sphere.yaml"]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_resume_without_a_run_dir_is_refused(command, capsys, workplace):
    text = SPHERE + ("sweep: {num_seeds: 2}\n" if command == "sweep" else "")
    (workplace / "sphere.yaml").write_text(text)
    assert run(command, "sphere.yaml", "--resume") == 2
    message = "jaxes: error: --resume must come with the --run-dir to go on with\n"
    assert capsys.readouterr().err == message
    assert [path.name for path in workplace.iterdir()] == ["sphere.yaml"]


def test_train_with_resume_begins_a_run_and_goes_on_with_it(capsys, workplace):
    rows = workplace / "run" / "metrics.jsonl"
    train = ("train", "sphere.yaml", "--run-dir", "run", "--resume")
    assert run(*train) == 0
    assert "no checkpoint to go on from: the run starts at its first" in capsys.readouterr().out
    begun = rows.read_text()
    assert begun.count("\n") == 3
    assert run(*train, "--set", "training.num_generations=5") == 0
    assert rows.read_text().startswith(begun)
    assert rows.read_text().count("\n") == 5
    assert run(*train, "--set", "training.seed=1") == 2  # another run
    assert rows.read_text().count("\n") == 5
