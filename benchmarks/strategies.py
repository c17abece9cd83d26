"""What does a strategy cost beside its peers?

Each comparison runs both sides in this one process, on one core and one thread, warm and in turn
(ours, theirs, ours, theirs, ...), and takes the ratio of CPU seconds a generation, repeat by
repeat:

    python benchmarks/strategies.py [--repeats 7] [--parts pycma,evosax,vmapped,lazy,noise]
        [--output benchmarks/results/strategies-cpu.json]

Needs the packages `cma` and `evosax`. Exits with 1 if a bar is missed.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import cma
import jax
import jax.numpy as jnp
import machine
import numpy as np
from evosax.algorithms import CMA_ES, SNES, Open_ES, Sep_CMA_ES

import jaxes
from jaxes.core import Population, Strategy
from jaxes.gaussian import CHUNK_SIZE, Scheme, antithetic, independent
from jaxes.problems.functions import function

SIGMA = 0.5
EVOSAX = {"snes": SNES, "openai_es": Open_ES, "sep_cma_es": Sep_CMA_ES}
Step = Callable[[jax.Array, Any], Any]  # (key, state) -> state after one generation


class Side(NamedTuple):
    """One side of a comparison."""

    seconds: Callable[[], float]  # one repeat: CPU seconds a generation
    compile_seconds: float = 0.0
    memory: int | None = None  # bytes that the compiled program holds beside its arguments


class Case(NamedTuple):
    """A comparison and its bars: what ours over theirs may be at most."""

    name: str
    ours: Side
    theirs: Side
    bar: float  # of the time
    memory_bar: float | None = None


# What is measured


def cost(solution: jax.Array) -> jax.Array:
    """A sphere off the origin, the same function for both sides."""
    return jnp.sum((solution - 1) ** 2)


def generation(strategy: Strategy) -> Step:
    """Ask, evaluate (some members at a time, as the library does) and tell."""
    evaluate = function(lambda solution: -cost(solution), lambda key: key).evaluate

    def step(key: jax.Array, state: Any) -> Any:
        population = Population(strategy.ask, key, state, strategy.population_size)
        return strategy.tell(key, state, evaluate(key, population, ()).fitness)

    return step


def evosax_generation(strategy: Any, params: Any) -> Step:
    def step(key: jax.Array, state: Any) -> Any:
        population, state = strategy.ask(key, state, params)
        return strategy.tell(key, population, jax.vmap(cost)(population), state, params)[0]

    return step


def one_draw(scheme: Scheme, population_size: int) -> Step:
    """The population's noise, drawn once, a chunk of members at a time, and summed."""

    def step(key: jax.Array, total: jax.Array) -> jax.Array:
        def add(total: jax.Array, members: jax.Array) -> tuple[jax.Array, None]:
            noise = scheme(key, members, total.size, total.dtype)
            return total + jnp.sum(noise, axis=0), None

        members = jnp.arange(population_size, dtype=jnp.int32).reshape(-1, CHUNK_SIZE)
        return jax.lax.scan(add, total, members)[0]

    return step


# How it is measured


def scan(step: Step, generations: int) -> Step:
    """The program that is timed: generations in a scan."""

    def program(key: jax.Array, state: Any) -> Any:
        keys = jax.random.split(key, generations)
        return jax.lax.scan(lambda state, key: (step(key, state), None), state, keys)[0]

    return program


def compiled(program: Step, key: jax.Array, state: Any, calls: int, generations: int) -> Side:
    """A side that calls a program `calls` times a repeat, for so many generations in total."""
    started = time.process_time()
    executable = jax.jit(program).lower(key, state).compile()
    compile_seconds = time.process_time() - started

    def seconds() -> float:
        started = time.process_time()
        for _ in range(calls):
            jax.block_until_ready(executable(key, state))
        return (time.process_time() - started) / generations

    memory = executable.memory_analysis()
    used = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Side(seconds, compile_seconds, used)


def scanned(step: Step, state: Any, generations: int) -> Side:
    return compiled(scan(step, generations), jax.random.key(0), state, 1, generations)


def vmapped(strategy: Strategy, dim: int, runs: int, generations: int) -> Side:
    """Whole runs side by side; the time is that of one run's generation."""
    states = jax.vmap(strategy.init)(jnp.zeros((runs, dim)))
    program = jax.vmap(scan(generation(strategy), generations))
    keys = jax.random.split(jax.random.key(0), runs)
    return compiled(program, keys, states, 1, runs * generations)


def looped(strategy: Strategy, dim: int, runs: int, generations: int) -> Side:
    """The same runs one after another."""
    program, state = scan(generation(strategy), generations), strategy.init(jnp.zeros(dim))
    return compiled(program, jax.random.key(0), state, runs, runs * generations)


def host_dispatched(strategy: Strategy, dim: int, generations: int) -> Side:
    """Solutions go to the host and fitness comes back; only ask and tell are timed."""
    with jax.enable_x64(True):
        fresh = (np.int32(0), strategy.init(jnp.zeros(dim, jnp.float64)))
        key, fitness = jax.random.key(0), np.zeros(strategy.population_size)

        def tell_and_ask(carry: tuple[jax.Array, Any], fitness: jax.Array) -> tuple[Any, Any]:
            counter, state = carry
            state = strategy.tell(jax.random.fold_in(key, counter), state, fitness)
            return (counter + 1, state), strategy.ask(jax.random.fold_in(key, counter + 1), state)

        started = time.process_time()
        jitted = jax.jit(tell_and_ask, donate_argnums=0)
        jitted.lower(fresh, fitness).compile()
        compile_seconds = time.process_time() - started

    def seconds() -> float:
        with jax.enable_x64(True):
            carry = jax.tree.map(jnp.array, fresh)
            solutions = np.asarray(jax.jit(strategy.ask)(jax.random.fold_in(key, 0), carry[1]))
            total = 0.0
            for _ in range(generations):
                fitness = -np.sum((solutions - 1) ** 2, axis=1)
                started = time.process_time()
                carry, solutions = jitted(carry, fitness)
                solutions = np.asarray(solutions)
                total += time.process_time() - started
        return total / generations

    return Side(seconds, compile_seconds)


def pycma(dim: int, population_size: int, generations: int) -> Side:
    """pycma's ask and tell with its defaults, and without its log."""
    options = {"popsize": population_size, "verbose": -9, "verb_log": 0, "seed": 1}

    def seconds() -> float:
        strategy = cma.CMAEvolutionStrategy(np.zeros(dim), SIGMA, options)
        solutions, total = strategy.ask(), 0.0
        for _ in range(generations):
            costs = np.sum((np.asarray(solutions) - 1) ** 2, axis=1).tolist()
            started = time.process_time()
            strategy.tell(solutions, costs)
            solutions = strategy.ask()
            total += time.process_time() - started
        return total / generations

    return Side(seconds)


def evosax(algorithm: Any, dim: int, population_size: int, generations: int) -> Side:
    strategy = algorithm(population_size, jnp.zeros(dim))
    params = strategy.default_params
    state = strategy.init(jax.random.key(0), jnp.zeros(dim), params)
    return scanned(evosax_generation(strategy, params), state, generations)


def ours(strategy: Strategy, dim: int, generations: int) -> Side:
    return scanned(generation(strategy), strategy.init(jnp.zeros(dim)), generations)


# The parts: cases with their bars


def pycma_cases() -> Iterator[Case]:
    """Host-dispatched CMA-ES in double precision against pycma."""
    for dim, size, generations, bar in (
        (10, 10, 2000, 1.1),
        (10, 256, 300, 1.0),
        (100, 17, 500, 1.1),
        (100, 256, 100, 1.0),
        (500, 22, 60, 1.1),
        (1000, 24, 24, 1.1),
        (1000, 256, 4, 1.1),
    ):
        strategy = jaxes.cma_es(size, sigma=SIGMA)
        mine = host_dispatched(strategy, dim, generations)
        yield Case(f"cma_es {dim}/{size}", mine, pycma(dim, size, generations), bar)


def evosax_cases() -> Iterator[Case]:
    """Scanned runs in single precision against evosax."""
    for dim, size, generations, theirs, bar in ((1000, 24, 16, 4, 1 / 3), (1000, 256, 4, 4, 1.0)):
        mine = ours(jaxes.cma_es(size, sigma=SIGMA), dim, generations)
        yield Case(f"cma_es {dim}/{size}", mine, evosax(CMA_ES, dim, size, theirs), bar)
    sizes = ((1000, 256, 100, 1.3, None), (10_000, 1024, 4, 1.0, 0.1))
    for dim, size, generations, bar, memory_bar in sizes:
        for name in EVOSAX:
            mine = ours(getattr(jaxes, name)(size, sigma=SIGMA), dim, generations)
            peer = evosax(EVOSAX[name], dim, size, generations)
            yield Case(f"{name} {dim}/{size}", mine, peer, bar, memory_bar)


def vmapped_cases() -> Iterator[Case]:
    """1,000 runs of CMA-ES at once against one of pycma's."""
    mine = vmapped(jaxes.cma_es(10, sigma=SIGMA), 10, 1000, 50)
    yield Case("cma_es 10/10, 1,000 runs", mine, pycma(10, 10, 2000), 1 / 25)


def lazy_cases() -> Iterator[Case]:
    """64 vmapped runs of CMA-ES against the same runs one after another.

    An eigendecomposition that is skipped in a single run must be skipped under vmap too: a select
    would decompose every time, at 2 to 3 times the cost. (64 states leave the cache, one stays.)
    """
    for dim, generations in ((40, 40), (200, 6)):
        strategy = jaxes.cma_es(4 + int(3 * log(dim)), sigma=SIGMA)
        sides = (side(strategy, dim, 64, generations) for side in (vmapped, looped))
        yield Case(f"cma_es {dim}/{strategy.population_size}, 64 runs", *sides, 1.3)


def noise_cases() -> Iterator[Case]:
    """Ask, a trivial evaluation and tell against one draw of the population's noise."""
    for dim, size, generations in ((1000, 256, 100), (10_000, 1024, 4)):
        for factory, scheme in (
            (jaxes.snes, independent),
            (jaxes.cem, independent),
            (jaxes.sep_cma_es, independent),
            (jaxes.openai_es, antithetic),
        ):
            draw = scanned(one_draw(scheme, size), jnp.zeros(dim), generations)
            mine = ours(factory(size, sigma=SIGMA), dim, generations)
            yield Case(f"{factory.__name__} {dim}/{size}", mine, draw, 2.2)


CASES = (pycma_cases, evosax_cases, vmapped_cases, lazy_cases, noise_cases)
PARTS = {cases.__name__.removesuffix("_cases"): cases for cases in CASES}


def measure(part: str, case: Case, repeats: int) -> dict:
    """The row of one case: medians, the ratio's range, and the bars that it missed."""
    sides = (case.ours, case.theirs)
    for side in sides:
        side.seconds()  # warm
    times = [[side.seconds() for side in sides] for _ in range(repeats)]
    ratios = [mine / peer for mine, peer in times]
    row = {
        "part": part,
        "case": case.name,
        "seconds": [statistics.median(column) for column in zip(*times, strict=True)],
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "bar": case.bar,
        "compile_seconds": [side.compile_seconds for side in sides],
        "memory": [side.memory for side in sides],
        "memory_bar": case.memory_bar,
    }
    bars = [("time", row["ratio"], case.bar)]
    if case.memory_bar is not None:
        bars.append(("memory", case.ours.memory / case.theirs.memory, case.memory_bar))
    missed = [f"{of} {ratio:.3f} > {bar:.3f}" for of, ratio, bar in bars if ratio > bar]
    return row | {"bars": len(bars), "missed": missed}


def table_line(row: dict) -> str:
    def pair(values: list, scale: float, spec: str) -> str:
        return " ".join("     -" if v is None else format(v * scale, spec) for v in values)

    low, high = row["ratio_range"]
    return (
        f"{row['case']:26s} {pair(row['seconds'], 1e3, '9.4f')}  {row['ratio']:6.3f} "
        f"({low:.3f} to {high:.3f}, bar {row['bar']:.3f})  "
        f"{pair(row['compile_seconds'], 1, '6.2f')}  {pair(row['memory'], 1e-6, '6.1f')}"
    )


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--repeats", type=machine.count, default=7)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for part in options.parts:
        print(f"\n{PARTS[part].__doc__.splitlines()[0]}")
        print("dimension/population: ms a generation, ratio, compile seconds, MB (ours, theirs)")
        for case in PARTS[part]():
            rows.append(row := measure(part, case, options.repeats))
            print(table_line(row), flush=True)
    missed = [f"{row['part']}, {row['case']}: {miss}" for row in rows for miss in row["missed"]]
    bars = sum(row["bars"] for row in rows)
    print(f"\n{bars - len(missed)} of {bars} bars met; missed:", *missed or ["none"], sep="\n  ")
    machine.write(options.output, rows=rows)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
