"""The command line in this process: what it refuses, and what it lists."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

import jaxes
from jaxes import cli
from jaxes.config import files as config_files
from jaxes.config import plan as plan_config
from jaxes.config import run as config
from jaxes.config import sweep as sweep_config
from jaxes.terminal import format_number

SPHERE = """# A sphere.
problem: {name: sphere, num_dims: 4}
strategy: {name: cma_es, population_size: 10, cem: {elite_fraction: 0.5}}
training: {num_generations: 1e1}
"""


SWING = """environment: {name: pendulum}
problem: {episode_length: 10, num_test_episodes: 4}
policy: {name: linear}
strategy: {name: openai_es, population_size: 4}
training: {num_generations: 2, test_every: 1}
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sphere.yaml").write_text(SPHERE.replace("1e1", "10"))
    return tmp_path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


REFUSED = [
    ("strategy.name=cen", "strategy.name: unknown value 'cen'; allowed: ars, cem, cma_es"),
    ("strategy.name=cen", "did you mean 'cem'?"),
    ("strategy.cem.elite_fractoin=0.1", "strategy.cem.elite_fractoin: unknown field; allowed:"),
    ("strategy.cem.elite_fractoin=0.1", "did you mean 'elite_fraction'?"),
    ("strategy.cma_es.sigma=-1", "strategy.cma_es.sigma must be positive, got -1"),
    (
        "strategy.cma_es.sigma=big",
        "strategy.cma_es.sigma: input should be a valid number, got 'big'",
    ),
    ("strategy.cma_es.sigma=.nan", "strategy.cma_es.sigma: input should be a finite number"),
    ("strategy.population_size=3", "strategy.population_size must be a whole number of at least 4"),
    ("strategy.population_size=true", "strategy.population_size: input should be a valid integer"),
    ("problem.num_dims=0", "problem.num_dims must be a whole number of at least 1, got 0"),
    ("problem.name=spere", "problem.name: unknown value 'spere'"),
    ("problem.env_name=ant", "problem.env_name: unknown field; allowed: name, num_dims"),
    ("policy.name=mlp", "policy: the problem 'sphere' takes no policy"),
    ("training.num_generations=0", "training.num_generations must be a whole number"),
    ("training.num_generation=5", "did you mean 'num_generations'?"),
    ("training.loggers=[wandb]", "training.loggers: 'wandb' needs the package wandb"),
    ("training=5", "training: expected a section, got 5"),
    ("trainin.seed=5", "trainin: unknown field"),
    ("training.seed.x=5", "training.seed: input should be a valid integer"),
    ("training.seed", "--set training.seed: expected key.path=value"),
    ("=5", "--set =5: expected key.path=value"),
    ("training.seed=[", "--set training.seed=[: '[' is not a YAML value"),
    ("training.seed=2020-01-01", "training.seed"),
    (
        "training.seed=99999999999999999999",
        "training.seed must be a whole number of at least 0 and",
    ),
    ("strategy.name=[cem]", "strategy.name: unknown value ['cem']"),
    ("problem.num_dims=9999999999", "problem.num_dims must be a whole number of at least 1 and"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_bad_input_is_one_clear_line(override, message, capsys, workplace):
    before = set(workplace.iterdir())
    assert run("train", "sphere.yaml", "--set", override) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxes: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert set(workplace.iterdir()) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["environment.env_name=hoper"], "got 'hoper'; did you mean 'hopper'?"),
        (["environment.env_name=swimmer"], "brax's 'swimmer' fails in its own code"),
        (
            ["environment.backend=sprong"],
            "environment.backend: unknown value 'sprong'; allowed: spring",
        ),
        (["policy.name=mpl"], "policy.name: unknown value 'mpl'; allowed: mlp, linear, gru"),
        (["policy.hidden=[8, 0]"], "policy.hidden must be a whole number of at least 1, got 0"),
        (["policy.hidden=[a]"], "policy.hidden.0: input should be a valid integer, got 'a'"),
        (["problem.episode_length=0"], "problem.episode_length must be a whole number"),
        (
            ["strategy.name=openai_es", "strategy.population_size=7"],
            "strategy.population_size must be even for pairs, got 7",
        ),
        (["strategy.openai_es.optimizer=adm"], "unknown value 'adm'; allowed: sgd, adam"),
    ],
)
def test_bad_input_to_brax_is_one_clear_line(overrides, message, capsys, workplace):
    before = set(workplace.iterdir())
    sets = [part for override in overrides for part in ("--set", override)]
    assert run("train", "quickstart", *sets) == 2
    _, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert set(workplace.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nothing.yaml"), "no file 'nothing.yaml', nor is it bundled; allowed:"),
        (("train", "list.yaml"), "list.yaml: not a config"),
        (("train", "broken.yaml"), "broken.yaml: not YAML"),
        (("train", "binary.yaml"), "binary.yaml: "),
        (("train", "."), "no file '.'"),
        (("train", "sphere.yaml", "--run-dir", "sphere.yaml"), "sphere.yaml is not a directory"),
        (("train", "sphere.yaml", "--run-dir", "sphere.yaml/sub"), "Not a directory"),
        (("train", "sphere.yaml", "--run-dir", "a [b]"), "run_dir must be a path without"),
        (("train", "sphere.yaml", "--run-dir", ""), "--run-dir must be a path, got ''"),
        (("train", "twice.yaml"), "'problem' stands twice"),
        (("train", "scalar.yaml"), "problem: a section with the field `name` is required, got 1"),
        (("train", "cycle.yaml"), "Circular reference"),
        (("evaluate", "nowhere", "--seed", "-1"), "--seed must be a whole number"),
        (("resume", "nowhere"), "run: there is no nowhere"),
        (("evaluate", "nowhere"), "run: there is no nowhere"),
        (("evaluate", "."), "run: . holds no run of `jaxes train` (no config.yaml in it)"),
    ],
)
def test_bad_files_are_one_clear_line(arguments, message, capsys, workplace):
    (workplace / "list.yaml").write_text("- 1\n- 2\n")
    (workplace / "broken.yaml").write_text("a: [1\nb: }")
    (workplace / "twice.yaml").write_text(SPHERE + "problem: {name: ackley}\n")
    (workplace / "scalar.yaml").write_text("problem: 1\n")
    (workplace / "cycle.yaml").write_text(SPHERE + "other: &a [*a]\n")
    (workplace / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert run(*arguments) == 2
    _, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1


def test_train_evaluate_resume(capsys, workplace):
    assert run("train", "sphere.yaml", "--run-dir", "run", "--set", "training.seed=7") == 0
    out, _ = capsys.readouterr()
    assert "jaxes evaluate run" in out
    resolved = yaml.safe_load((workplace / "run" / "config.yaml").read_text())
    assert resolved["training"]["seed"] == 7
    assert resolved["strategy"]["cma_es"]["sigma"] == 0.5  # defaults are filled in
    assert resolved["strategy"]["cem"]["elite_fraction"] == 0.5

    assert run("train", "sphere.yaml", "--run-dir", "run") == 2
    assert "already holds a run" in capsys.readouterr().err

    assert run("evaluate", "run", "--episodes", "3", "--json") == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run("resume", "run", "--json") == 0
    resumed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert resumed["generation"] == evaluated["generation"] == 10
    assert resumed["return_mean"] == pytest.approx(evaluated["return_mean"], rel=1e-5)
    assert evaluated["num_test_episodes"] == 3
    assert run("evaluate", "run", "--episodes", "0") == 2


@pytest.fixture(scope="module")
def sphere_run(tmp_path_factory):
    """The directory of a run of SPHERE: copy it to change it."""
    folder = tmp_path_factory.mktemp("sphere")
    (folder / "sphere.yaml").write_text(SPHERE.replace("1e1", "10"))
    assert run("train", folder / "sphere.yaml", "--run-dir", folder / "run") == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", '{"a": 1}\n', "metrics.jsonl, line 1: no row of a generation"),
        ("metrics.jsonl", "junk{\n", "metrics.jsonl, line 1: no row of a generation"),
        ("run.json", "[]", "run.json is damaged"),
        ("run.json", "[1", "run.json is damaged"),
    ],
)
def test_damaged_files_are_named(name, text, message, capsys, workplace, sphere_run):
    shutil.copytree(sphere_run, workplace / "run")
    (workplace / "run" / name).write_text(text)
    capsys.readouterr()
    assert run("resume", "run") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_damaged_checkpoint_is_named_and_an_earlier_one_taken(capsys, workplace):
    every = ("--set", "training.checkpoint_every=4")
    assert run("train", "sphere.yaml", "--run-dir", "run", *every) == 0
    shutil.rmtree(workplace / "run" / "checkpoints" / "10" / "default")
    capsys.readouterr()
    assert run("verify", "run") == 1
    assert "run/checkpoints/10: checkpoint run/checkpoints/10 is damaged" in capsys.readouterr().out
    for command in ("evaluate", "resume"):
        with pytest.warns(UserWarning, match="10 is damaged: .*; that of 8 is taken instead"):
            assert run(command, "run") == 0
    assert run("verify", "run") == 0
    assert (workplace / "run" / "checkpoints" / "10.damaged").is_dir()
    for generation in ("8", "10"):
        (workplace / "run" / "checkpoints" / generation / "manifest.json").write_text("{")
    capsys.readouterr()
    for command in ("evaluate", "resume"):
        assert run(command, "run") == 2
        err = capsys.readouterr().err
        assert "no checkpoint is left to go on from: checkpoint run/checkpoints/10 is dam" in err
        assert err.count("\n") == 1


def fails_at(generation, error):
    """A sink that cannot write once a run has come so far."""

    def write(self, rows):
        if rows[-1]["generation"] >= generation:
            raise error

    return write


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: disk")]
)
def test_what_fails_once_a_run_has_begun_is_no_bad_input(error, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jaxes.training.metrics.JsonLines, "write", fails_at(5, error))
        assert run("train", "sphere.yaml", "--run-dir", "out") == 1
    _, err = capsys.readouterr()
    assert f"jaxes: failed: {error}; the run had begun, and had come to generation" in err
    assert "out has what was saved" in err
    assert err.count("\n") == 1
    assert run("resume", "out") == 0


def test_a_full_disk_is_no_bad_input_even_before(capsys, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jaxes.training.identity, "write_whole", full)
    assert run("train", "sphere.yaml", "--run-dir", "out") == 1
    assert "jaxes: failed: [Errno 28]" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["a file", "~/.cache/jaxes", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_is_done_without(where, capsys, workplace, monkeypatch):
    (workplace / "file").write_text("")
    folder = workplace / "file" / "cache" if where == "a file" else where
    assert run("train", "sphere.yaml", "--run-dir", "out", "--cache-dir", folder) == 0
    _, err = capsys.readouterr()
    assert err.startswith("compiled programs are not kept: ")
    assert "--cache-dir" in err
    assert err.count("\n") == 1
    assert not (workplace / "~").exists()


def test_an_ascii_terminal_spells_out(workplace):
    """Of a run that has trained to its end, `±` ended the program."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}
    (workplace / "swing.yaml").write_text(SWING)
    for arguments, said in (
        (["train", "swing.yaml", "--run-dir", "out"], " +- "),
        (["list"], "sigma"),
    ):
        command = [sys.executable, "-m", "jaxes.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert said in done.stdout.decode("ascii")


@pytest.mark.parametrize(
    ("text", "episodes", "target"), [(SWING, 4, None), (SWING, 4, -1e4), (SPHERE, 1, None)]
)
def test_a_result_is_said_with_its_interval_and_what_ended_it(
    text, episodes, target, workplace, capsys
):
    (workplace / "it.yaml").write_text(text.replace("1e1", "10"))
    more = [] if target is None else ["--set", f"training.target_return={target}"]
    assert run("train", "it.yaml", "--run-dir", "out", *more) == 0
    out = " ".join(capsys.readouterr().out.split())
    result = json.loads((workplace / "out" / "run.json").read_text())["result"]
    half = result["return_ci95"]
    interval = f" ± {format_number(half)} (95 %)" if episodes > 1 else ""
    said = f"return {format_number(result['return_mean'])}{interval} over {episodes} fresh episodes"
    assert said in out
    assert (", target reached" in out) == (target is not None)


def test_files_are_utf_8_in_any_locale(workplace):
    text = (workplace / "sphere.yaml").read_text()
    (workplace / "greek.yaml").write_bytes(f"# σ is a step size\n{text}".encode())
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX"}
    command = [sys.executable, "-c", READ]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [b"ANSI_X3.4-1968", b"sphere"]


READ = """
import locale
from jaxes.config import files
print(locale.getpreferredencoding(False), files.read("greek.yaml")["problem"]["name"])
assert all(map(files.comment, files.bundled()))
"""


def test_an_option_that_is_refused_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        run("train", "sphere.yaml", "--set")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_that_goes_away_does_not_end_the_run(workplace):
    command = f"{sys.executable} -m jaxes.cli train sphere.yaml --run-dir run | head -1"
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert (workplace / "run" / "metrics.jsonl").read_text().count("\n") == 10
    assert (workplace / "run" / "checkpoints" / "10").is_dir()


def test_a_resolved_config_resolves_to_itself(workplace):
    first = config.load("sphere.yaml")
    (workplace / "resolved.yaml").write_text(yaml.safe_dump(first.resolved, sort_keys=False))
    assert config.load("resolved.yaml").resolved == first.resolved


def test_every_bundled_config_is_valid_with_every_strategy():
    for path in config_files.bundled():
        assert path.read_text().startswith("# ")
        if "sweep" in config_files.read(path):
            assert sweep_config.load(path).groups
            continue
        if "planner" in config_files.read(path):
            assert plan_config.load(path).build().training
            continue
        for strategy in ("cem", "cma_es", "openai_es"):
            resolved = config.load(path, (f"strategy.name={strategy}",)).resolved
            assert resolved["strategy"]["name"] == strategy


def test_numbers_in_scientific_notation(workplace):
    (workplace / "sphere.yaml").write_text(SPHERE.replace("1e1", "10").replace("0.5", "5e-1"))
    assert config.load("sphere.yaml").resolved["strategy"]["cem"]["elite_fraction"] == 0.5


def test_list_names_everything(capsys):
    assert run("list") == 0
    out = capsys.readouterr().out
    for name in ("cma_es", "openai_es", "hopper", "rastrigin", "quickstart"):
        assert f"  {name} " in out


CONTROLLER = (
    '{"features": ["heights", "holes"], "weights": [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -4]}'
)
TETRIS = """
problem: {name: tetris, height: 5, width: 4, features: [heights, holes], num_test_episodes: 4}
strategy: {name: cem, population_size: 6, cem: {elite_fraction: 0.5, noise: 4.0}}
training: {num_generations: 2, test_every: 1}
"""


@pytest.mark.slow
def test_a_run_of_tetris_is_scored_and_watched(capsys, tmp_path):
    (tmp_path / "tetris.yaml").write_text(TETRIS)
    assert run("train", "tetris.yaml", "--run-dir", "run") == 0
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["test/return_ci95"] >= 0
    capsys.readouterr()
    score = ("tetris", "score", "--weights", "run", "--games", 5, "--max-pieces", 6, "--json")
    assert run(*score) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["games"] == 5
    assert found["capped"] <= 5
    assert {"lines_mean", "lines_ci95", "pieces_per_line", "pieces_per_second"} <= found.keys()
    assert run("tetris", "play", "--weights", "run", "--pieces", 4, "--output", "film.gif") == 0
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")
    assert run("tetris", "play", "--weights", "run", "--pieces", 3) == 0
    assert "██" in capsys.readouterr().out
    assert run("render", "run", "--seconds", 0.4, "--output", "game.mp4") == 0
    assert capsys.readouterr().out.endswith("game.mp4\n")
    assert b"ftyp" in (tmp_path / "game.mp4").read_bytes()[:12]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("score", "--weights", "du20"), "--weights must be a file, a run, or one of dellacherie"),
        (
            ("score", "--weights", "du", "--height", 3),
            "height must be a whole number of at least 4",
        ),
        (("score", "--weights", "du", "--height", 0), "--height must be a whole number"),
        (("score", "--weights", "du", "--games", 0), "--games must be"),
        (("score", "--weights", "du", "--max-pieces", 0), "--max-pieces must be"),
        (("score", "--weights", "w.json", "--seed", -1), "--seed must be"),
        (("score", "--weights", "sphere.yaml"), "is no JSON"),
        (("score", "--weights", "."), "holds no run"),
        (
            ("play", "--weights", "w.json", "--output", "x.png"),
            "must be a file that ends in .mp4 or .gif",
        ),
        (("play", "--weights", "w.json", "--output", "no/x.gif"), "in a folder that is there"),
        (("play", "--weights", "w.json", "--speed", 0), "--speed must be"),
    ],
)
def test_bad_input_to_tetris_is_one_line(arguments, said, capsys, tmp_path):
    (tmp_path / "w.json").write_text(CONTROLLER)
    assert run("tetris", *arguments) == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
