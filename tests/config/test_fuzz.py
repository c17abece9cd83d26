"""Whatever stands in a config file or behind `--set`: a line, or a run that may begin.

`JAXES_OBJECTS=10000 pytest -m slow tests/config/test_fuzz.py` tries so many; nothing is compiled.
"""

import contextlib
import io
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from winds import Wind, wind
from worlds import point

import jaxes
from jaxes import cli, environments
from jaxes.cli import startup
from jaxes.cli import sweep as sweep_command

COUNT = int(os.environ.get("JAXES_OBJECTS", "1200"))
RUN = """\
environment: {name: stub}
problem: {episode_length: 9, num_test_episodes: 2, discount: 0.99}
policy: {name: mlp, hidden: [4], activation: tanh}
strategy: {name: cem, population_size: 16, cem: {sigma: 0.5}}
training: {num_generations: 3, seed: 1, target_return: 1.5, keep_checkpoints: best}
"""
RANDOMIZED = RUN.replace(
    "{name: stub}",
    """
  name: blown
  push: 2.0
  randomize: {drift: {kind: uniform, path: drift, low: -1, high: 1}}
  test_randomize: {push: {kind: scale, path: push, low: 0.5, high: 2, shared: true}}""",
)
MANY = RUN.replace(
    "{name: stub}",
    """
  name: many
  tasks:
    calm: {name: blown}
    gale:
      name: blown
      randomize:
        drift:
          {kind: uniform, path: drift, low: -1, high: {start: 1, end: 2, num_generations: 3}}""",
).replace(
    "problem: {",
    "problem: {weights: {calm: 1, gale: {start: 0, end: 1, num_generations: 2}}, num_episodes: "
    "{calm: 1, gale: 2}, aggregate: cvar(0.5), condition: one_hot, ",
)
SWEEP = (
    RUN
    + """\
sweep:
  num_seeds: 2
  grid: {strategy.cem.sigma: [0.1, 1.0], policy.hidden: [[4], [8]]}
  halving: {generations: [2], keep: 0.5}
"""
)
PLAN = """\
environment: {name: stub}
planner:
  horizon: 4
  strategy: {name: snes, population_size: 16}
  objective: {name: reach, target: [0.0, 0.0], when: closest}
model: {name: true_model}
training: {num_trials: 2, episode_length: 9}
"""
SWEPT_TASKS = MANY + SWEEP.removeprefix(RUN).replace(
    "policy.hidden", "problem.weights.calm: [1, 2], environment.tasks.gale.randomize.drift.low"
).replace("[[4], [8]]", "[-1, 0]")
CONFIGS = {
    "train": [RUN, RANDOMIZED, MANY],
    "sweep": [SWEEP, SWEPT_TASKS],
    "plan": [PLAN],
}
PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "  ",
        "- ",
        "&a ",
        "*a",
        "!!python/object:os.system ",
        "#",
    ),
    *(
        "null",
        "true",
        ".nan",
        ".inf",
        "-1",
        "0",
        "1e400",
        "1" * 30,
        "''",
        "\x00",
        "\ud7ff",
        "é",
        "|",
    ),
    *("sigma", "name", "seed", "environment", "strategy", "sweep", "planner", "cma_es", "linear"),
    *("many", "tasks", "randomize", "kind", "drift", "weights", "start"),
]
FIELDS = [
    *("training", "training.seed", "training.mean", "training.loggers", "training.num_generations"),
    *(
        "strategy",
        "strategy.name",
        "strategy.population_size",
        "strategy.cem",
        "strategy.cem.sigma",
    ),
    *("environment.name", "environment.x", "policy.hidden", "policy.output", "problem.discount"),
    *("problem.num_lanes", "problem.episode_cap", "sweep.grid", "sweep.num_seeds", "sweep.halving"),
    *("sweep.random", "planner.horizon", "planner.strategy.name", "planner.objective.target"),
    *("environment.tasks", "environment.tasks.calm", "environment.tasks.gale.name"),
    *("environment.randomize", "environment.randomize.drift.low", "environment.randomize.drift"),
    *("environment.tasks.gale.randomize.drift.high", "environment.test_randomize.push.path"),
    *("environment.tasks.calm.randomize.x.kind", "environment.tasks.copy.name"),
    *("problem.weights", "problem.weights.gale", "problem.num_episodes", "problem.aggregate"),
    *("problem.condition", "problem.pad", "environment.tasks.gale.randomize.drift.high.end"),
    *("planner.beta", "model.name", "model", "", ".", "a..b", "training.seed.x", "x", "*", "[0]"),
]
VALUES = st.one_of(
    st.sampled_from(
        ["", "1", "-1", "0.5", "1e9", "nan", ".nan", ".inf", "null", "true", "[]", "{}"]
    ),
    st.sampled_from(
        ["[1, 2]", "[[4], x]", "{a: 1}", "cem", "nowhere", "[", "2026-01-01", "*a", "1j"]
    ),
    st.text(max_size=6),
)


def blown(push: float = 1.0) -> jaxes.Environment:
    """The wind, as a config makes it."""
    return wind(Wind(push=push))


@st.composite
def commands(draw):
    """A command, the text of its config, and what is set."""
    command = draw(st.sampled_from(sorted(CONFIGS)))
    text = draw(st.sampled_from(CONFIGS[draw(st.sampled_from([command] * 8 + sorted(CONFIGS)))]))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 1, 4, 20]))
        text = text[:at] + draw(st.sampled_from(["", *PIECES])) + text[at + length :]
    overrides = draw(st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), max_size=2))
    separator = draw(st.sampled_from(["="] * 9 + [""]))
    return command, text, [f"{field}{separator}{value}" for field, value in overrides]


class BegunError(Exception):
    """The run would begin now."""


def begins(*_, **__):
    raise BegunError


@pytest.mark.slow
def test_no_config_ends_in_a_traceback_or_begins_in_vain(tmp_path, monkeypatch):
    for owner, name in [
        (jaxes, "train"),
        (jaxes, "learn_to_control"),
        (sweep_command, "run_sweep"),
    ]:
        monkeypatch.setattr(owner, name, begins)
    monkeypatch.setattr(startup, "keep_compiled_programs", lambda *_: None)
    monkeypatch.setitem(environments.ENVIRONMENTS, "stub", lambda size=1: point())
    monkeypatch.setitem(environments.ENVIRONMENTS, "blown", blown)
    monkeypatch.chdir(tmp_path)
    file, begun = tmp_path / "config.yaml", []

    @settings(
        max_examples=COUNT,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(commands())
    def look(drawn):
        command, text, overrides = drawn
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        sets = [part for override in overrides for part in ("--set", override)]
        err = io.StringIO()
        try:
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                code = cli.main([command, "config.yaml", *sets])
        except BegunError:
            begun.append(drawn)
        else:
            assert code == 2, drawn
            assert err.getvalue().startswith("jaxes: error: "), drawn
            assert err.getvalue().count("\n") == 1, (drawn, err.getvalue())

    look()
    assert len(begun) > COUNT / 20
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
