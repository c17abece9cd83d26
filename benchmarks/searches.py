"""How fast are searches that a user drives by hand, or calls again and again?

Three parts, each row written as it comes:

    hand      a generation of `ask` and `tell` called by hand, against the same two jitted, for
              every strategy: at most 1.5 times the seconds from the second call on
    restarts  `minimize(..., restarts="bipop")` on 5-D Rastrigin to 1e-8, in processes of their
              own with nothing compiled before: at most 4 programs and 10 s, import apart; a second
              call in the same process takes at most pycma's wall-clock for the same task
    repeated  four calls with the same function and shapes: the later ones compile nothing

    python benchmarks/searches.py [--parts hand,restarts,repeated] [--repeats 5]
        [--output benchmarks/results/searches-cpu.json]

Exits with 1 where a bar is missed.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import machine
import numpy as np

import jaxes

DIM, MEMBERS, GENERATIONS = 100, 32, 60
SLOWER, PROGRAMS, SECONDS = 1.5, 4, 10.0
START, STD, TARGET = np.full(5, 3.0), 2.0, 1e-8


def rastrigin(x):
    return 50 + jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x))


class Compiled:
    """Counts the programs that XLA compiles."""

    def __init__(self) -> None:
        self.number = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **_: object) -> None:
        self.number += event == "/jax/core/compile/backend_compile_duration"


def seconds_by_hand(ask, tell, state) -> float:
    """Of a generation, as pycma's users write it."""
    key, started = jax.random.key(0), time.perf_counter()
    for g in range(GENERATIONS):
        if g == 2:
            started = time.perf_counter()
        this_key = jax.random.fold_in(key, g)
        x = np.asarray(ask(this_key, state))
        state = tell(this_key, state, -np.sum((x - 1) ** 2, axis=1))
    jax.block_until_ready(state)
    return (time.perf_counter() - started) / (GENERATIONS - 2)


def hand(repeats: int):
    for name, factory in jaxes.STRATEGIES.items():
        strategy = factory(MEMBERS)
        state = strategy.init(jnp.zeros(DIM))
        jitted = jax.jit(strategy.ask), jax.jit(strategy.tell)
        ratios = []
        for _ in range(repeats + 1):
            theirs = seconds_by_hand(*jitted, state)
            ratios.append(seconds_by_hand(strategy.ask, strategy.tell, state) / theirs)
        ratios = ratios[1:]
        yield {
            "part": "hand",
            "strategy": name,
            "ratio": statistics.median(ratios),
            "ratio_range": [min(ratios), max(ratios)],
            "met": statistics.median(ratios) <= SLOWER,
        }


def search(seed: int):
    return jaxes.minimize(
        rastrigin, START, std=STD, restarts="bipop", target=TARGET, seed=seed, budget=1_000_000
    )


def one_process(seed: int) -> None:
    """Two calls in a fresh process; what they took, on the last line."""
    compiled, found = Compiled(), {}
    for call in ("first", "second"):
        before, started = compiled.number, time.perf_counter()
        result = search(seed)
        found[call] = {
            "seconds": time.perf_counter() - started,
            "programs": compiled.number - before,
            "evaluations": result.evaluations,
            "starts": result.starts,
            "reason": result.reason,
        }
    print(json.dumps(found))


def pycma_seconds(seed: int) -> tuple[float, int]:
    import cma

    def fn(x):
        return 50 + float(np.sum(x**2 - 10 * np.cos(2 * np.pi * np.asarray(x))))

    options = {"ftarget": TARGET, "verbose": -9, "seed": seed + 1, "maxfevals": 1_000_000}
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, strategy = cma.fmin2(fn, START, STD, options, bipop=True, restarts=9)
    return time.perf_counter() - started, int(strategy.result.evaluations)


def restarts(repeats: int):
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    seconds = {"second": [], "pycma": []}
    for seed in range(repeats):
        command = [sys.executable, __file__, "--process", str(seed)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        ours = json.loads(done.stdout.splitlines()[-1])
        theirs, evaluations = pycma_seconds(seed)
        first = ours["first"]
        seconds["second"].append(ours["second"]["seconds"])
        seconds["pycma"].append(theirs)
        yield {
            "part": "restarts",
            "seed": seed,
            **ours,
            "pycma": {"seconds": theirs, "evaluations": evaluations},
            "met": first["programs"] <= PROGRAMS and first["seconds"] <= SECONDS,
        }
    ratio = statistics.median(seconds["pycma"]) / statistics.median(seconds["second"])
    yield {"part": "restarts", "faster_than_pycma_again": ratio, "met": ratio >= 1}


def repeated(repeats: int):
    compiled, calls = Compiled(), []
    for seed in range(4):
        before, started = compiled.number, time.perf_counter()
        result = jaxes.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(7), seed=seed)
        calls.append([time.perf_counter() - started, compiled.number - before, result.evaluations])
    later = sum(programs for _, programs, _ in calls[1:])
    yield {"part": "repeated", "seconds_programs_evaluations": calls, "met": later == 0}


PARTS = {"hand": hand, "restarts": restarts, "repeated": repeated}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=machine.count, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--process", type=int, help="one part's own process, of this seed")
    options = parser.parse_args()
    if options.process is not None:
        return one_process(options.process)
    rows = []
    for part in options.parts:
        for row in PARTS[part](options.repeats):
            rows.append(row)
            print(json.dumps(row), flush=True)
            machine.write(options.output, parts=options.parts, rows=rows)
    sys.exit(not all(row["met"] for row in rows))


if __name__ == "__main__":
    main()
