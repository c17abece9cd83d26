"""The peers of `peers.py`: which version is installed, and what of each is tried and timed."""

from typing import Any, NamedTuple


class Peer(NamedTuple):
    """A peer: what is installed, what is imported, and what of it is timed."""

    version: str
    modules: tuple[str, ...]
    algorithms: str  # Python that is the list of their names; `import` of `modules` is done before
    strategies: tuple[str, ...] = ()  # that are timed
    before: str | None = None  # installed first, so that pip finds it there
    brax: str | None = None  # Python that makes its task of Brax and takes a step
    # Packages that some of its algorithms need and pip does not bring, and Python that prints, for
    # each of its algorithms, how it fails to be made and asked beside them, or null.
    needs: tuple[str, ...] = ()
    constructs: str | None = None


TORCH = "torch==2.13.0"  # on this machine one without CUDA
BRAX = "brax==0.14.2"
EVOSAX = "0.3.2"
PEERS = {
    "evosax": Peer(
        EVOSAX,
        ("evosax.algorithms", "evosax.problems"),
        "sorted(evosax.algorithms.algorithms)",
        ("cma_es", "sep_cma_es", "snes", "pgpe", "openai_es"),
        brax="""
import jax
from evosax.problems import BraxProblem
from evosax.problems.networks import MLP, tanh_output_fn
BraxProblem("hopper", MLP((8, 3), output_fn=tanh_output_fn), 10).sample(jax.random.key(0))
""",
    ),
    "evojax": Peer(
        "0.2.17",
        ("evojax", "evojax.algo", "evojax.task.cartpole"),
        "sorted(evojax.algo.Strategies)",
        ("cma_es", "pgpe"),
        brax="""
from evojax.task.brax_task import BraxTask
BraxTask("hopper")
""",
        needs=(f"evosax=={EVOSAX}", "fcmaes==2.1.0"),
        constructs="""
import json
from evojax import algo
from evojax.task.base import BDExtractor
from evojax.task.cartpole import State
more = {
    "ARS_native": {"elite_ratio": 0.5},
    "MAPElites": {"bd_extractor": BDExtractor([("bin", 4)], None, State)},
}
found = {}
for name, algorithm in algo.Strategies.items():
    try:
        algorithm(param_size=4, pop_size=8, **more.get(name, {})).ask()
        found[name] = None
    except (Exception, SystemExit) as error:  # some exit where a package is missing
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
""",
    ),
    "evotorch": Peer(
        "0.6.1",
        ("evotorch.algorithms", "evotorch.neuroevolution"),
        "sorted(name for name, value in vars(evotorch.algorithms).items() if"
        " isinstance(value, type) and issubclass(value, evotorch.algorithms.SearchAlgorithm)"
        " and name != 'SearchAlgorithm')",
        ("cma_es", "sep_cma_es", "snes", "pgpe", "cem"),
        before=TORCH,
        brax="""
from evotorch.neuroevolution import VecGymNE
task = VecGymNE("brax::hopper", "Linear(obs_length, act_length)", env_config={"episode_length": 10})
task.evaluate(task.generate_batch(2))
""",
    ),
    "evox": Peer(
        "1.4.0",
        ("evox.algorithms", "evox.workflows", "evox.problems"),
        "sorted(evox.algorithms.__all__)",
        ("cma_es", "snes", "openai_es"),
        before=TORCH,
        brax="""
import torch
from evox.problems.neuroevolution.brax import BraxProblem
policy = torch.nn.Linear(11, 3)
task = BraxProblem(policy, "hopper", 10, 1, pop_size=2, compile_policy=False)
task.evaluate({name: value.detach().expand(2, *value.shape) for name, value in
               policy.named_parameters()})
""",
    ),
    "evorl-jax": Peer(
        "0.1.1",
        ("evorl.ec.optimizers", "evorl.workflows", "evorl.algorithms.ec.so.openes"),
        "sorted(name for name, value in vars(evorl.ec.optimizers).items() if"
        " isinstance(value, type) and issubclass(value, evorl.ec.optimizers.EvoOptimizer)"
        " and name != 'EvoOptimizer')",
        ("openai_es", "cem"),
        brax="""
import jax, jax.numpy as jnp
from evorl.envs.brax import create_wrapped_brax_env
task = create_wrapped_brax_env("hopper", 10, parallel=2)
task.step(task.reset(jax.random.PRNGKey(0)), jnp.zeros((2, 3)))
""",
    ),
    "brax": Peer(
        "0.14.2",
        ("brax.envs", "brax.training.agents.es.train", "brax.training.agents.ars.train"),
        "['ars', 'es']",
    ),
    "cma": Peer(
        "4.5.0",
        ("cma",),
        "['CMAEvolutionStrategy']",
        ("cma_es", "sep_cma_es"),
    ),
}
# Dimension, population, and generations of a repeat.
SIZES = {
    "cma_es": ((100, 256, 100), (1000, 256, 3)),
    "sep_cma_es": ((10_000, 256, 10),),
    "snes": ((10_000, 256, 10),),
    "pgpe": ((10_000, 256, 10),),
    "cem": ((10_000, 256, 10),),
    "openai_es": ((100_000, 256, 3),),
}


def cases(peer: Peer) -> dict[str, dict[str, Any]]:
    """The cases of a peer's strategies, by name."""
    found = {}
    for strategy in peer.strategies:
        for dim, population, generations in SIZES[strategy]:
            sizes = {"dim": dim, "population": population, "generations": generations}
            found[f"{strategy} {dim:,}/{population}"] = {"strategy": strategy, **sizes}
    return found
