"""The command line: a file a command, and `main`."""

from jaxes.cli.main import main

__all__ = ["main"]
