"""Environments that are distributions: see docs/tasks.md."""

from jaxes.environments.randomize import Randomizer, gravity, scale, uniform
from jaxes.environments.randomized import randomized

__all__ = ["Randomizer", "gravity", "randomized", "scale", "uniform"]
