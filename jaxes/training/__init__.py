"""Training runs: the loop, checkpoints, metrics, configuration."""

from jaxes.training.trainer import TrainResult, train

__all__ = ["TrainResult", "train"]
