"""Sweeps: many runs, (hyperparameters × seeds), as one program."""

from jaxes.sweeps.halving import Halving
from jaxes.sweeps.sweep import SweepResult, sweep

__all__ = ["Halving", "SweepResult", "sweep"]
