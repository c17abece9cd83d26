"""jaxes: evolution strategies on accelerators, in JAX. Start reading in `jaxes/core.py`."""

from jaxes import policies, problems, weights
from jaxes.core import (
    Evaluation,
    Population,
    Problem,
    Strategy,
    TrainHParams,
    TrainState,
    init,
    make_update_step,
    run,
)
from jaxes.strategies import STRATEGIES
from jaxes.strategies.cem import cem
from jaxes.strategies.cma_es import cma_es
from jaxes.strategies.openai_es import nes, openai_es
from jaxes.strategies.snes import snes
from jaxes.strategies.xnes import xnes
from jaxes.training import TrainResult, train

__version__ = "0.1.0"

__all__ = [
    "STRATEGIES",
    "Evaluation",
    "Population",
    "Problem",
    "Strategy",
    "TrainHParams",
    "TrainResult",
    "TrainState",
    "cem",
    "cma_es",
    "init",
    "make_update_step",
    "nes",
    "openai_es",
    "policies",
    "problems",
    "run",
    "snes",
    "train",
    "weights",
    "xnes",
]
