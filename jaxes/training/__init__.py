"""Training runs: program, loop, checkpoints, metrics."""

from jaxes.training.learn import learn_to_control
from jaxes.training.run import RunResult
from jaxes.training.train import train

__all__ = ["RunResult", "learn_to_control", "train"]
