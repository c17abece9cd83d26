"""Training runs and sweeps: loops, checkpoints, metrics, configuration."""

from jaxes.training.halving import Halving
from jaxes.training.sweeps import SweepResult, sweep
from jaxes.training.trainer import TrainResult, train

__all__ = ["Halving", "SweepResult", "TrainResult", "sweep", "train"]
