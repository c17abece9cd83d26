"""Search for the best value of a plain function. Start reading in `maximize.py`."""

from jaxes.optimize.maximize import maximize, minimize
from jaxes.optimize.progress import SearchResult
from jaxes.optimize.start import Termination

__all__ = ["SearchResult", "Termination", "maximize", "minimize"]
