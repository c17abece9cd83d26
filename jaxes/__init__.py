"""jaxes: evolution strategies on accelerators, in JAX. Start reading in `jaxes/core.py`."""

from jaxes import clock as clock  # first: it reads the time
from jaxes import (
    environments,
    gaussian,
    optimizers,
    planning,
    policies,
    problems,
    randomize,
    tetris,
    weights,
)
from jaxes.config import evaluate, export
from jaxes.core import (
    Evaluation,
    Population,
    Problem,
    Strategy,
    Tests,
    TrainHParams,
    TrainState,
    init,
    make_update_step,
    run,
)
from jaxes.devices import guard_reductions, use_cpu_devices
from jaxes.environments import Environment
from jaxes.hosts.join import use_hosts
from jaxes.hparams import Ramp
from jaxes.optimize import SearchResult, Termination, maximize, minimize
from jaxes.parallel import make_mesh
from jaxes.planning import control
from jaxes.policy_directory import LoadedPolicy, load_policy
from jaxes.report.render import render
from jaxes.strategies import STRATEGIES
from jaxes.strategies.ars import ars
from jaxes.strategies.cem import cem
from jaxes.strategies.cma_es import cma_es
from jaxes.strategies.genetic import genetic
from jaxes.strategies.lm_ma_es import lm_ma_es
from jaxes.strategies.openai_es import nes, openai_es
from jaxes.strategies.pgpe import pgpe
from jaxes.strategies.plain_cma import plain_cma
from jaxes.strategies.sep_cma_es import sep_cma_es
from jaxes.strategies.snes import snes
from jaxes.strategies.xnes import xnes
from jaxes.sweeps import Halving, SweepResult, sweep
from jaxes.training import RunResult, learn_to_control, train

__version__ = "0.1.0"

guard_reductions()

__all__ = [
    "STRATEGIES",
    "Environment",
    "Evaluation",
    "Halving",
    "LoadedPolicy",
    "Population",
    "Problem",
    "Ramp",
    "RunResult",
    "SearchResult",
    "Strategy",
    "SweepResult",
    "Termination",
    "Tests",
    "TrainHParams",
    "TrainState",
    "ars",
    "cem",
    "cma_es",
    "control",
    "environments",
    "evaluate",
    "export",
    "gaussian",
    "genetic",
    "init",
    "learn_to_control",
    "lm_ma_es",
    "load_policy",
    "make_mesh",
    "make_update_step",
    "maximize",
    "minimize",
    "nes",
    "openai_es",
    "optimizers",
    "pgpe",
    "plain_cma",
    "planning",
    "policies",
    "problems",
    "randomize",
    "render",
    "run",
    "sep_cma_es",
    "snes",
    "sweep",
    "tetris",
    "train",
    "use_cpu_devices",
    "use_hosts",
    "weights",
    "xnes",
]
