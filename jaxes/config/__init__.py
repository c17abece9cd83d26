"""Configs: `files` says where they are and what is YAML, `run` and `sweep` what they may hold."""

from jaxes.config.export import export
from jaxes.config.run import evaluate

__all__ = ["evaluate", "export"]
