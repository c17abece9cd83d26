"""Environments by name, options of Brax's, and discrete or continuous actions."""

from importlib import metadata

import jax
import jax.numpy as jnp
import pytest

import jaxes
from jaxes import cli, environments


def still(size: int = 2) -> jaxes.Environment:
    """What a package of its own offers."""
    if not isinstance(size, int):
        raise TypeError("size")
    if size == 0:
        raise ValueError("size must be at least 1, got 0")
    return jaxes.Environment(
        lambda key: (jnp.zeros(()), jnp.zeros(size)),
        lambda state, action: (state, jnp.zeros(size), jnp.zeros(()), jnp.bool_(False)),
        1,
        name="standing",
    )


NOTHING = 3


def number() -> int:
    return 3


def unread(size: "Unknown" = 3):  # noqa: F821
    return still()


@pytest.fixture
def installed(monkeypatch):
    points = metadata.EntryPoints(
        metadata.EntryPoint(name, value, "jaxes.environments")
        for name, value in [
            ("still", f"{__name__}:still"),
            ("broken", "no_such_package_at_all:make"),
            ("nothing", f"{__name__}:NOTHING"),
            ("number", f"{__name__}:number"),
            ("unread", f"{__name__}:unread"),
        ]
    )
    monkeypatch.setattr(metadata, "entry_points", lambda **chosen: points.select(**chosen))
    environments._installed.cache_clear()
    yield
    environments._installed.cache_clear()


def test_environments_of_installed_packages_are_found(installed):
    others = ["broken", "nothing", "number", "still", "unread"]
    own = ["brax", "gymnax", "playground", "continuous_cartpole", "pendulum", "trap"]
    assert environments.names() == [*own, *others]
    environment = environments.find("still")(size=3)
    assert environments.observation_size(environment) == 3
    assert environment.spec == {"name": "still", "size": 3}
    assert environments.find("brax") is environments.brax
    with pytest.raises(ValueError, match="name: 'still' fails: TypeError"):
        environments.find("still")("two")


def test_a_list_has_those_that_cannot_be_loaded_too(installed, capsys):
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  still                     What a package of its own offers." in lines
    assert any(line.startswith("  broken") and "fails: ModuleNotFoundE" in line for line in lines)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("name: still, size: -1", "environment: standing: reset(key) fails"),
        ("name: still, size: 0", "environment.size must be at least 1, got 0"),
        ("name: number", "environment.name: what 'number' returns must be an Environment, got 3"),
        ("name: unread", "unread: its annotations cannot be read: name 'Unknown' is not defined"),
    ],
)
def test_an_environment_that_fails_is_one_clear_line(installed, section, message, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(
        f"environment: {{{section}}}\n"
        "policy: {hidden: [8]}\n"
        "strategy: {name: cem, population_size: 16}\n"
        "training: {num_generations: 1}\n"
    )
    assert cli.main(["train", str(tmp_path / "run.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stil", r"environment.name must be one of brax, .* got 'stil'; did you mean 'still'\?"),
        ("broken", "environment.name: 'broken', the entry point 'no_such_package_at_all:make', fa"),
        ("nothing", "'nothing', .* must be a function that returns an Environment, got 3"),
    ],
)
def test_those_that_cannot_be_had_are_refused(installed, name, message):
    with pytest.raises(ValueError, match=message):
        environments.find(name)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "action_size or num_actions must be given, one of them"),
        ({"action_size": 1, "num_actions": 2}, "must be given, one of them"),
        ({"num_actions": 0}, "num_actions must be a whole number of at least 1, got 0"),
    ],
)
def test_an_environment_has_one_kind_of_actions(sizes, message):
    environment = still()._replace(action_size=None)._replace(**sizes)
    with pytest.raises(ValueError, match=message):
        environments.observation_size(environment)


def test_options_go_to_brax_and_unknown_ones_are_refused():
    environment = environments.brax("hopper", options={"terminate_when_unhealthy": False})
    assert environment.spec["options"] == {"terminate_when_unhealthy": False}
    with pytest.raises(ValueError, match=r"options must be one of .* did you mean 'terminate_when"):
        environments.brax("hopper", options={"terminate_when_unhealty": False})
    with pytest.raises(ValueError, match="options must be a mapping"):
        environments.brax("hopper", options=["terminate_when_unhealthy"])


def test_an_env_of_brax_is_taken_as_it_is():
    from brax import envs

    env = envs.get_environment("fast")
    environment = environments.brax(env)
    assert (environment.action_size, environment.spec) == (env.action_size, None)
    theirs, (_, ours) = env.reset(jax.random.key(0)), environment.reset(jax.random.key(0))
    assert (theirs.obs == ours).all()
    with pytest.raises(ValueError, match="options must be empty"):
        environments.brax(env, options={"use_dict_obs": True})


def test_a_problem_says_what_it_takes():
    with pytest.raises(ValueError, match="alive_bonus is called alive_penalty"):
        jaxes.problems.brax("fast", alive_bonus=1.0)
    with pytest.raises(ValueError, match=r"got 'num_episode'; did you mean 'num_episodes'\?"):
        jaxes.problems.policy_search(still(), num_episode=2)
    with pytest.raises(ValueError, match=r"discount must be in \(0, 1\], got 0"):
        jaxes.problems.policy_search(still(), discount=0)
