"""One side of a comparison of `peers.py`: generations of one library's strategies, timed.

    PYTHON benchmarks/peers_side.py LIBRARY

PYTHON is that of an environment that has the library. Each line of standard input is a case,
`{"strategy": "snes", "dim": 10000, "population": 256, "generations": 10}`; the answer to the first
of a case has the wall-clock of compiling and running it (`first_seconds`), the answer to each later
one the CPU seconds of a generation: ask, evaluation of a sphere off the origin, and tell. One core
and one thread; single precision, but for pycma, which has none.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SIGMA = 0.5  # of the first generation
LEARNING_RATE = 0.01  # where a strategy needs one and has no default
TRIALS = 3  # of two ways to run the same, before one is chosen
ELITES = 0.1


class Case(NamedTuple):
    """What is run."""

    strategy: str
    dim: int
    population: int
    generations: int


class Run(NamedTuple):
    """A case, ready: a state to begin from, which is not timed, and the generations, which are."""

    begin: Callable[[], Any]
    go_on: Callable[[Any], Any]  # state -> the mean after the generations
    how: str = ""  # where it is not the way that the library's documentation begins with


# Libraries in JAX: all generations are one program, a scan.


def scanned(step: Callable, state: Any, generations: int) -> Run:
    """Of `step(key, state) -> state`."""
    import jax

    def program(key: Any, state: Any) -> Any:
        keys = jax.random.split(key, generations)
        return jax.lax.scan(lambda state, key: (step(key, state), None), state, keys)[0]

    jitted = jax.jit(program)
    return Run(
        lambda: state, lambda state: jax.block_until_ready(jitted(jax.random.key(1), state)).mean
    )


def of_jaxes(case: Case) -> Run:
    import jaxes  # isort: skip  (it sets XLA's flags)
    import jax
    import jax.numpy as jnp

    elites = {"elite_fraction": ELITES} if case.strategy == "cem" else {}
    strategy = jaxes.STRATEGIES[case.strategy](case.population, sigma=SIGMA, **elites)
    problem = jaxes.problems.function(
        lambda solution: -jnp.sum((solution - 1) ** 2), lambda key: jnp.zeros(case.dim)
    )
    state = jaxes.init(jax.random.key(0), strategy, problem)
    step = jaxes.make_update_step(strategy, problem)
    program = jax.jit(lambda key, state: jaxes.run(step, key, state, case.generations)[0])

    def go_on(state: Any) -> Any:
        return jax.block_until_ready(program(jax.random.key(1), state)).strategy.mean

    return Run(lambda: state, go_on)


def jax_costs(population: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.vmap(lambda solution: jnp.sum((solution - 1) ** 2))(population)


def of_evosax(case: Case) -> Run:
    import jax
    import jax.numpy as jnp
    import optax
    from evosax import algorithms

    names = {"cma_es": "CMA_ES", "sep_cma_es": "Sep_CMA_ES", "snes": "SNES", "pgpe": "PGPE"}
    if case.strategy == "openai_es":
        adam, sigma = optax.adam(LEARNING_RATE), optax.constant_schedule(SIGMA)
        settings = {"optimizer": adam, "std_schedule": sigma}
        strategy = algorithms.Open_ES(case.population, jnp.zeros(case.dim), **settings)
        params = strategy.default_params
    else:
        strategy = getattr(algorithms, names[case.strategy])(case.population, jnp.zeros(case.dim))
        params = strategy.default_params.replace(std_init=SIGMA)
    state = strategy.init(jax.random.key(0), jnp.zeros(case.dim), params)

    def step(key: Any, state: Any) -> Any:
        population, state = strategy.ask(key, state, params)
        return strategy.tell(key, population, jax_costs(population), state, params)[0]

    return scanned(step, state, case.generations)


def of_evorl(case: Case) -> Run:
    import jax
    import jax.numpy as jnp
    from evorl.ec import optimizers

    constant = optimizers.ExponentialScheduleSpec
    if case.strategy == "openai_es":
        rate, sigma = (constant(init=x, final=x, decay=1.0) for x in (LEARNING_RATE, SIGMA))
        strategy = optimizers.OpenES(
            pop_size=case.population, lr_schedule=rate, noise_std_schedule=sigma
        )
    else:
        strategy = optimizers.SepCEM(
            pop_size=case.population,
            num_elites=int(ELITES * case.population),
            cov_eps_schedule=constant(init=SIGMA**2, final=1e-3, decay=1.0),
        )
    state = strategy.init(jnp.zeros(case.dim), jax.random.PRNGKey(0))

    def step(key: Any, state: Any) -> Any:  # its keys are in its state
        population, state = strategy.ask(state)
        return strategy.tell(state, -jax_costs(population))[1]

    return scanned(step, state, case.generations)


def of_evojax(case: Case) -> Run:
    """A strategy of EvoJAX is an object whose methods call compiled functions."""
    import jax
    from evojax import algo

    if case.strategy == "pgpe":
        make = lambda: algo.PGPE(  # noqa: E731
            case.population, case.dim, optimizer="clipup", init_stdev=SIGMA
        )
    else:
        make = lambda: algo.CMA_ES_JAX(  # noqa: E731
            case.dim, case.population, init_stdev=SIGMA, mean=np.zeros(case.dim)
        )
    costs = jax.jit(jax_costs)

    def step(strategy: Any) -> None:
        strategy.tell(-costs(strategy.ask()))

    return stepped(make, step, lambda strategy: strategy.best_params, case.generations)


# Libraries with objects that are stepped.


def stepped(make: Callable, step: Callable, mean: Callable, generations: int) -> Run:
    """The first step is not timed: some of these compile in it, or have no update in it yet."""

    def begin() -> Any:
        made = make()
        step(made)
        return made

    def go_on(made: Any) -> Any:
        for _ in range(generations):
            step(made)
        return np.asarray(mean(made))

    return Run(begin, go_on)


def of_cma(case: Case) -> Run:
    import cma

    options = {"popsize": case.population, "verbose": -9, "verb_log": 0, "seed": 1}
    options["CMA_diagonal"] = case.strategy == "sep_cma_es"

    def step(strategy: Any) -> None:
        solutions = strategy.ask()
        strategy.tell(solutions, np.sum((np.asarray(solutions) - 1) ** 2, axis=1).tolist())

    make = lambda: cma.CMAEvolutionStrategy(np.zeros(case.dim), SIGMA, options)  # noqa: E731
    return stepped(make, step, lambda strategy: strategy.mean, case.generations)


def of_evotorch(case: Case) -> Run:
    import torch
    from evotorch import Problem, algorithms

    torch.set_num_threads(1)
    torch.manual_seed(0)
    given: dict[str, Any] = {"popsize": case.population, "stdev_init": SIGMA}
    given["center_init"] = torch.zeros(case.dim)
    names = {"cma_es": "CMAES", "sep_cma_es": "CMAES", "snes": "SNES", "pgpe": "PGPE", "cem": "CEM"}
    given |= {
        "sep_cma_es": {"separable": True},
        "pgpe": {"center_learning_rate": LEARNING_RATE, "stdev_learning_rate": 0.1},
        "cem": {"parenthood_ratio": ELITES},
    }.get(case.strategy, {})

    def make() -> Any:
        problem = Problem(
            "min",
            lambda solutions: torch.sum((solutions - 1) ** 2, dim=-1),
            solution_length=case.dim,
            initial_bounds=(-1, 1),
            vectorized=True,
        )
        return getattr(algorithms, names[case.strategy])(problem, **given)

    mean = lambda searcher: searcher.status["center"]  # noqa: E731
    return stepped(make, lambda searcher: searcher.step(), mean, case.generations)


def of_evox(case: Case) -> Run:
    """Compiled, as its documentation has it, and as it is: the faster one by medians is taken."""
    import torch

    plain, compiled = (evox_run(case, compiled=compiled) for compiled in (False, True))
    try:
        compiled.go_on(compiled.begin())  # compiles
    except torch._dynamo.exc.TorchDynamoException:
        return plain._replace(how="not compiled: torch.compile refuses it")
    plain.go_on(plain.begin())
    trials = [[seconds(run, case)[0] for run in (compiled, plain)] for _ in range(TRIALS)]
    medians = [statistics.median(times) for times in zip(*trials, strict=True)]
    if medians[0] < medians[1]:
        return compiled
    return plain._replace(how="not compiled, which is faster")


def evox_run(case: Case, compiled: bool) -> Run:
    import torch
    from evox import algorithms, core, workflows

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Sphere(core.Problem):
        def evaluate(self, population: Any) -> Any:
            return torch.sum((population - 1) ** 2, dim=1)

    center = torch.zeros(case.dim)
    if case.strategy == "cma_es":
        algorithm = algorithms.CMAES(center, SIGMA, case.population)
    elif case.strategy == "snes":
        algorithm = algorithms.SNES(case.population, center, SIGMA, weight_type="recomb")
    else:
        algorithm = algorithms.OpenES(case.population, center, LEARNING_RATE, SIGMA, "adam")
    workflow = workflows.StdWorkflow(algorithm, Sphere())
    step = core.compile(workflow.step) if compiled else workflow.step
    first = {name: value.clone() for name, value in workflow.state_dict().items()}

    def make() -> Any:
        workflow.load_state_dict(first)
        return workflow.algorithm

    mean = lambda algorithm: (  # noqa: E731
        algorithm.mean if case.strategy == "cma_es" else algorithm.center
    )
    return stepped(make, lambda _: step(), mean, case.generations)


LIBRARIES = {
    "jaxes": of_jaxes,
    "evosax": of_evosax,
    "evorl-jax": of_evorl,
    "evojax": of_evojax,
    "cma": of_cma,
    "evotorch": of_evotorch,
    "evox": of_evox,
}


def seconds(run: Run, case: Case) -> tuple[float, Any]:
    """CPU seconds of a generation, and the mean after all of them."""
    state = run.begin()
    started = time.process_time()
    mean = run.go_on(state)
    return (time.process_time() - started) / case.generations, mean


def answer(library: str, case: Case, ready: dict[Case, Run]) -> dict[str, Any]:
    """What is said of a case."""
    if case in ready:
        return {"seconds": seconds(ready[case], case)[0]}
    started = time.monotonic()
    run = LIBRARIES[library](case)
    _, mean = seconds(run, case)
    found = {"first_seconds": time.monotonic() - started}
    mean = np.asarray(mean)
    if not np.all(np.isfinite(mean)) or not np.any(mean):  # it began at zero
        raise ValueError("the mean has not moved, or is not finite")
    ready[case] = run
    return found | ({"how": run.how} if run.how else {})


def main() -> None:
    library = sys.argv[1]
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    ready: dict[Case, Run] = {}
    for line in sys.stdin:
        try:
            found = answer(library, Case(**json.loads(line)), ready)
        except Exception as error:  # a peer's
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:240]}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
