"""What a sweep says: rankings with confidence intervals, and plots."""

from jaxes.report.plots import draw
from jaxes.report.ranking import Ranked, Sweep, rank, read_sweep

__all__ = ["Ranked", "Sweep", "draw", "rank", "read_sweep"]
