"""Tests over a whole registry, of which a few names stand for all in a default run."""

import pytest


def slow_but(names, *quick):
    """Parameters: each of the names, those that are not among the quick ones marked `slow`."""
    assert set(quick) <= set(names)
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(names)
    ]
