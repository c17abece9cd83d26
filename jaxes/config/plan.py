"""The config of planning: the sections `environment`, `planner`, `model` and `training`."""

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model

from jaxes.config import parts
from jaxes.config.files import ConfigError, config_of_run, read
from jaxes.config.sections import Checked, Section, section_of
from jaxes.environments import Environment
from jaxes.planning import MODELS, OBJECTIVES, Model, Planner, planner
from jaxes.planning.objectives import check_objective
from jaxes.training.learn import check_training, learn_to_control


class Setup(NamedTuple):
    """What a config describes: the arguments of `jaxes.learn_to_control`."""

    environment: Environment
    planner: Planner
    model: Model
    training: dict[str, Any]


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> "PlanConfig":
    """Reads a config and applies `key.path=value` overrides, each value in YAML's notation.

    Raises:
      ConfigError: the file is missing or no config, or a field or value is not allowed.
    """
    data = read(path, overrides)
    if "planner" not in data:
        raise ConfigError(f"planner: {path} has no such section: run it with `jaxes train`")
    return PlanConfig(data)


def is_plan_run(run_dir: Path) -> bool:
    """Whether a directory has a run that plans, as its config says; not where it has none that can
    be read: whoever needs one says so."""
    try:
        return "planner" in read(config_of_run(run_dir))
    except ValueError:
        return False


class PlanConfig(Checked):
    """A valid config of planning."""

    def __init__(self, data: dict[str, Any]):
        super().__init__(_config_model(data), data)

    def build(self) -> Setup:
        """Makes the parts. Nothing is compiled.

        Raises:
          ConfigError: a factory refuses a value.
        """
        config = self._model
        environment = parts.make_environment(config.environment)
        strategy = parts.make_strategy(config.planner.strategy, "planner.")
        with parts.in_section("planner.objective"):
            arguments = parts.arguments(config.planner.objective)
            objective = OBJECTIVES[config.planner.objective.name](**arguments)
        given = parts.arguments(config.planner) | {"strategy": strategy, "objective": objective}
        with parts.in_section("planner"):
            plans = planner(**given)
        with parts.in_section("model", environment.name):
            make, arguments = MODELS[config.model.name], parts.arguments(config.model)
            model = make(environment, **arguments)
        with parts.in_section("planner.objective", environment.name):
            check_objective(objective, model.observation_size)
        training = parts.arguments(config.training)
        with parts.in_section("training"):
            check_training(training, model)
        return Setup(environment, plans, model, training)


def _config_model(data: dict[str, Any]) -> type[Section]:
    environment = parts.environment_section(data)
    inside = data["planner"] if isinstance(data["planner"], dict) else {}
    strategy = parts.strategy_section(inside, "planner.")
    objective = parts.named_section(
        inside, "objective", OBJECTIVES, default="sum_of_rewards", where="planner."
    )
    model = parts.named_section(data, "model", MODELS, default="true_model", omit=("environment",))
    section = section_of(
        planner,
        omit=("strategy", "objective"),
        strategy=(strategy, ...),
        objective=(objective, ...),
    )
    training = section_of(learn_to_control, omit=("run_dir", "resume", "config"))
    return create_model(
        "config",
        __base__=Section,
        environment=(environment, ...),
        planner=(section, ...),
        model=(model, ...),
        training=(training, ...),
    )
