"""The policies of runs leave them, are tested again, or are refused by a line."""

import json

import jax
import numpy as np
import pytest
from departures import BUILT_IN, OWN, acts, ended, observations, search, world
from numpy.testing import assert_allclose

import jaxes
from jaxes import cli
from jaxes.problems import functions

RESULT = ("return_mean", "return_std", "return_min", "episode_length", "zero_policy_return")


def pendulum(policy=None, **settings):
    settings = {"episode_length": 8, "num_episodes": 2, "num_test_episodes": 4} | settings
    environment = jaxes.environments.pendulum()
    return search(policy or jaxes.policies.mlp((3,)), environment, **settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with checkpoints of generations 1, 2 and 3."""
    path = tmp_path_factory.mktemp("runs") / "run"
    settings = {
        "num_generations": 3,
        "checkpoint_every": 1,
        "keep_checkpoints": "all",
        "test_every": 1,
        "seed": 5,
    }
    result = jaxes.train(pendulum(), jaxes.snes(4, sigma=2.0), run_dir=path, **settings)
    return path, result


def main(*arguments):
    return cli.main([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The line that a command ends with."""
    capsys.readouterr()
    assert main(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_policy_of_a_run_is_tested_in_the_episodes_of_the_run(run, tmp_path, capsys):
    path = tmp_path / "deep" / "policy"
    assert main("export", run[0], "--output", path, "--episodes", 6) == 0
    out = capsys.readouterr().out
    assert "over 6 fresh episodes, at generation 3" in out
    assert f"jaxes evaluate {path}" in out.replace("\n", "")
    assert [each.name for each in path.parent.iterdir()] == ["policy"]
    found = []
    for what in (run[0], path):
        capsys.readouterr()
        assert main("evaluate", what, "--episodes", 10, "--seed", 4, "--json") == 0
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    of_run, of_policy = found
    for name in RESULT:
        assert_allclose(of_policy[name], of_run[name], rtol=1e-5)
    same = ("seed", "generation", "env_steps", "num_test_episodes", "population_return")
    assert [of_policy[name] for name in same] == [of_run[name] for name in same]
    about = jaxes.load_policy(path).about
    assert about["environment"]["name"] == "pendulum"
    assert about["run"] == json.loads((run[0] / "run.json").read_text())["id"]
    assert about["result"]["num_test_episodes"] == 6
    assert "run_dir" not in about["result"]


def test_a_checkpoint_is_chosen(run, tmp_path):
    problem, strategy = pendulum(), jaxes.snes(4, sigma=2.0)
    early = jaxes.export(
        run[0], tmp_path / "early", problem, strategy, checkpoint=1, num_episodes=2
    )
    last = jaxes.export(run[1], tmp_path / "last")
    assert [policy.about["result"]["generation"] for policy in (early, last)] == [1, 3]
    assert last.about["result"]["return_mean"] == run[1].return_mean
    act, memory = acts(problem, run[1])
    observation = observations(1)[0]
    expected, _ = act(memory, observation)
    np.testing.assert_array_equal(last.apply((), observation)[0], expected)
    assert not np.allclose(early.apply((), observation)[0], expected)


def test_discrete_actions_of_a_drawn_memory_are_tested_too(tmp_path):
    problem = search(OWN["linen"], world(4), num_test_episodes=3)
    policy = jaxes.export(ended(problem), tmp_path / "p", problem)
    result = jaxes.evaluate(tmp_path / "p", problem, num_episodes=3)
    _, _, key = jax.random.split(jax.random.key(11), 3)
    key = jax.random.fold_in(jax.random.fold_in(key, 0), 0)
    reset, step = jax.jit(problem.environment.reset), jax.jit(problem.environment.step)
    returns, chosen = [], set()
    for episode in range(1, 4):
        episode_key = jax.random.fold_in(key, episode)
        state, observation = reset(episode_key)
        policy.reset(jax.random.fold_in(episode_key, 1))
        returns.append(0)
        for _ in range(6):
            action = policy.act(observation)
            state, observation, reward, _ = step(state, np.int32(action))
            returns[-1] += reward
            chosen.add(action)
    assert len(chosen) > 1
    assert_allclose(result.return_mean, np.mean(returns), rtol=1e-4)
    assert_allclose(result.return_min, np.min(returns), rtol=1e-4)
    assert result.generation == 7


def test_an_untidy_environment_keeps_its_spec(tmp_path):
    environment = jaxes.environments.pendulum()
    untidy = environment._replace(
        step=lambda state, action: (*environment.step(state, action)[:3], 0.0)
    )
    described = jaxes.specs.with_spec(untidy, environment.spec)
    problem = search(OWN["matrix"], described)
    assert problem.spec is None
    assert problem.environment is not described
    policy = jaxes.export(ended(problem), tmp_path / "p", problem)
    assert policy.about["environment"] == environment.spec


def test_nothing_is_overwritten_and_nothing_is_left(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "file", tmp_path / "empty"):
        assert "--output: " in refused(capsys, "export", run[0], "--output", path)
        with pytest.raises(ValueError, match=r"path: .* exists already; choose another"):
            jaxes.export(run[1], path)
    said = refused(capsys, "export", run[0], "--output", tmp_path / "file" / "p")
    assert "is no folder to write in" in said
    before = {path.name for path in tmp_path.iterdir()}

    def full(file, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            jaxes.export(run[1], tmp_path / "p")
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("problem: {name: sphere}\nstrategy: {name: snes, population_size: 4}\n"
         "training: {num_generations: 1}", "run: it has no policy to export"),
        ("problem: {name: tetris}\nstrategy: {name: snes, population_size: 4}\n"
         "training: {num_generations: 1}", "run: it has no policy to export"),
        ("environment: {name: pendulum}\nplanner: {strategy: {name: cem, population_size: 8}}\n"
         "training: {num_trials: 1}", "has no policy to export: its actions are planned"),
    ],
)  # fmt: skip
def test_what_has_no_policy_is_refused(config, message, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(config)
    assert message in refused(capsys, "export", tmp_path, "--output", tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_what_is_no_run_is_refused(run, tmp_path, capsys):
    jaxes.export(run[1], tmp_path / "p")
    (tmp_path / "sweep" / "trials").mkdir(parents=True)
    for path, message in (
        (tmp_path / "nowhere", "run: there is no"),
        (tmp_path, "holds no run of"),
        (tmp_path / "p", "holds no run of"),
        (tmp_path / "sweep", "is a sweep: name a trial"),
    ):
        assert message in refused(capsys, "export", path, "--output", tmp_path / "new")
    for path, options, message in (
        (run[0], ("--checkpoint", "9"), "checkpoint must be best, latest, or one of 1, 2, 3"),
        (run[0], ("--episodes", "0"), "--episodes must be a whole number"),
    ):
        assert message in refused(capsys, "export", path, "--output", tmp_path / "new", *options)
    said = refused(capsys, "evaluate", tmp_path / "p", "--checkpoint", "best")
    assert "checkpoint must be latest: a policy has no other one" in said
    (tmp_path / "p" / "policy.stablehlo").unlink()
    assert "policy.stablehlo cannot be read" in refused(capsys, "evaluate", tmp_path / "p")


def test_a_result_of_another_problem_is_refused(tmp_path):
    result = ended(search(BUILT_IN["mlp"]))
    path = tmp_path / "p"
    for problem, message in (
        (None, "problem must be given for a run without a directory"),
        (search(BUILT_IN["linear"]), "problem must be the run's, of the mean and state"),
        (search(BUILT_IN["mlp"], normalize_observations=False), "problem must be the run's"),
        (functions.sphere(3), "run: it has no policy to export"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxes.export(result, path, problem)
    with pytest.raises(ValueError, match="checkpoint must be latest of a result"):
        jaxes.export(result, path, search(BUILT_IN["mlp"]), checkpoint="best")
    with pytest.raises(ValueError, match="run must be a RunResult, or a run's directory"):
        jaxes.export(3, path)
    with pytest.raises(ValueError, match="run's state must be a TrainState"):
        jaxes.export(result._replace(state=()), path, search(BUILT_IN["mlp"]))
    assert not path.exists()


def test_an_environment_that_no_config_can_name(tmp_path, capsys):
    problem = search(BUILT_IN["mlp"])
    jaxes.export(ended(problem), tmp_path / "p", problem)
    said = refused(capsys, "evaluate", tmp_path / "p")
    assert "environment: the policy acts in 'world', which no config can name" in said
    other = search(BUILT_IN["mlp"], world(4))
    with pytest.raises(ValueError, match=r"policy's environment must be of .* \(3, 2\), its own"):
        jaxes.evaluate(tmp_path / "p", other)


def test_a_module_that_cannot_be_exported_is_one_line(tmp_path):
    def calls_back(observation_size, num_outputs):
        def apply(params, memory, x):
            shape = jax.ShapeDtypeStruct((num_outputs,), np.float32)
            action = jax.pure_callback(np.zeros_like, shape, params, vmap_method="sequential")
            return action, memory

        return jaxes.policies.Policy(lambda key: np.zeros(num_outputs, np.float32), (), apply)

    problem = search(calls_back)
    with pytest.raises(ValueError, match=r"^policy cannot be exported: ") as raised:
        jaxes.export(ended(problem), tmp_path / "p", problem)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
