"""Search for the best value of a plain function. Start reading in `maximize.py`."""

from jaxes.optimize.maximize import SearchResult, maximize, minimize
from jaxes.optimize.start import Termination

__all__ = ["SearchResult", "Termination", "maximize", "minimize"]
