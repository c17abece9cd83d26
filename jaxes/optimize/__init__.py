"""Search for the best value of a plain function. Start reading in `maximize.py`."""

from jaxes.optimize.maximize import Result, maximize, minimize
from jaxes.optimize.search import Termination

__all__ = ["Result", "Termination", "maximize", "minimize"]
