"""Problems: what strategies search. `brax(...)` and functions with known optima."""

from collections.abc import Callable

from jaxes.core import Problem
from jaxes.problems import functions
from jaxes.problems.brax_envs import ENVIRONMENTS, brax
from jaxes.problems.functions import function
from jaxes.problems.policy_search import policy_search

PROBLEMS: dict[str, Callable[..., Problem]] = {"brax": brax} | functions.FUNCTIONS

__all__ = ["ENVIRONMENTS", "PROBLEMS", "brax", "function", "functions", "policy_search"]
