"""Problems: what strategies search. Policies in environments, and functions with known optima."""

from collections.abc import Callable

from jaxes.core import Problem
from jaxes.problems import functions
from jaxes.problems.functions import function
from jaxes.problems.many import many
from jaxes.problems.policy_search import policy_search
from jaxes.problems.shortcuts import brax, gymnax, playground
from jaxes.problems.tetris import tetris

# Those that have no environment and policy of their own in a config.
PROBLEMS: dict[str, Callable[..., Problem]] = {**functions.FUNCTIONS, "tetris": tetris}

__all__ = [
    "PROBLEMS",
    "brax",
    "function",
    "functions",
    "gymnax",
    "many",
    "playground",
    "policy_search",
    "tetris",
]
