"""Training runs: program, loop, checkpoints, metrics."""

from jaxes.training.run import RunResult
from jaxes.training.train import train

__all__ = ["RunResult", "train"]
