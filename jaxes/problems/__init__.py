"""Problems: what strategies search. Policies in environments, and functions with known optima."""

from collections.abc import Callable

from jaxes.core import Problem
from jaxes.problems import functions
from jaxes.problems.brax_envs import ENVIRONMENTS, brax
from jaxes.problems.functions import function
from jaxes.problems.gymnax_envs import gymnax
from jaxes.problems.playground_envs import playground
from jaxes.problems.policy_search import policy_search

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "brax": brax,
    "gymnax": gymnax,
    "playground": playground,
    **functions.FUNCTIONS,
}

__all__ = [
    "ENVIRONMENTS",
    "PROBLEMS",
    "brax",
    "function",
    "functions",
    "gymnax",
    "playground",
    "policy_search",
]
