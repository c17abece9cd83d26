"""Action selection by evolution: plans, models to plan with, and control of whole episodes."""

from collections.abc import Callable

from jaxes.planning.control import Episodes, control
from jaxes.planning.data import Transitions
from jaxes.planning.ensemble import ensemble_model
from jaxes.planning.learn import LearnState
from jaxes.planning.models import Model, true_model
from jaxes.planning.objectives import OBJECTIVES, Moment, Objective, reach, sum_of_rewards
from jaxes.planning.planner import Agent, PlanInfo, Planner, PlannerState, planner

MODELS: dict[str, Callable[..., Model]] = {
    "true_model": true_model,
    "ensemble_model": ensemble_model,
}

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "Agent",
    "Episodes",
    "LearnState",
    "Model",
    "Moment",
    "Objective",
    "PlanInfo",
    "Planner",
    "PlannerState",
    "Transitions",
    "control",
    "ensemble_model",
    "planner",
    "reach",
    "sum_of_rewards",
    "true_model",
]
