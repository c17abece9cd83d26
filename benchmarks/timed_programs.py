"""The programs that `vs_commit.py` times, by the jaxes of one tree: a process that is told what to
do on its standard input, one word a line, and answers each with a line of JSON.

Only what all commits since 45933eb offer is used, but for one name. A program is a few generations
from a state that is always the same; it is compiled when it is first asked for.

    compile PROGRAM    trace and compile it: seconds, HLO instructions, bytes of temporaries
    run PROGRAM        run it once: seconds, environment steps
"""

import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import commits
import jax
import jax.numpy as jnp

import jaxes
from jaxes import parallel, trials

# The strategy whose trials ask and tell one by one; the second name is that of 45933eb.
one_by_one = getattr(trials, "vmapped_one_by_one", None) or trials.mapped
Built = tuple[Callable, jax.Array, jaxes.TrainState]  # a function to compile, and its arguments


def hopper(normalize: bool = True) -> jaxes.Problem:
    settings = {"num_test_episodes": 1, "normalize_observations": normalize}
    return jaxes.problems.brax("hopper", **settings)


def one_run(population: int, generations: int, normalize: bool = True) -> Built:
    problem, strategy = hopper(normalize), jaxes.openai_es(population, sigma=0.1)
    step = jaxes.make_update_step(strategy, problem)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    key = parallel.place(jax.random.key(1))
    return partial(generations_of, step, generations), key, state


def sweep(num_trials: int, population: int, generations: int) -> Built:
    problem, strategy = hopper(), one_by_one(jaxes.openai_es(population, sigma=0.1))
    step = jaxes.make_update_step(strategy, problem)
    start_keys, run_keys = jax.random.split(jax.random.key(0), (2, num_trials))
    states = [jaxes.init(key, strategy, problem) for key in start_keys]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    run_keys, stack = parallel.place((run_keys, stack))
    return jax.vmap(partial(generations_of, step, generations)), run_keys, stack


def generations_of(
    step: Any, count: int, key: jax.Array, state: jaxes.TrainState
) -> tuple[jaxes.TrainState, jax.Array]:
    """The state after these generations, and their steps."""
    state, metrics = jaxes.run(step, key, state, num_generations=count)
    return state, metrics["rollout/env_steps"].sum()


PROGRAMS: dict[str, Callable[[], Built]] = {
    "hopper-256": partial(one_run, 256, 4),
    "hopper-2048": partial(one_run, 2048, 2),
    "hopper-2048-unnormalized": partial(one_run, 2048, 2, normalize=False),
    "sweep-16": partial(sweep, 16, 64, 2),
}


class Compiled:
    """A program, its arguments, and what compiling it took."""

    def __init__(self, name: str):
        fn, *self.arguments = PROGRAMS[name]()
        jax.block_until_ready(self.arguments)
        started = time.monotonic()
        self.program = jax.jit(fn).lower(*self.arguments).compile()
        self.about = {
            "seconds": time.monotonic() - started,
            "hlo": len(re.findall(r"^\s+(?:ROOT )?%?[\w.-]+ = ", self.program.as_text(), re.M)),
            "temp_bytes": self.program.memory_analysis().temp_size_in_bytes,
        }

    def run(self) -> dict[str, float]:
        started = time.monotonic()
        _, steps = jax.block_until_ready(self.program(*self.arguments))
        return {"seconds": time.monotonic() - started, "steps": int(steps.sum())}


def main() -> None:
    commits.imported_tree()
    jaxes.use_cpu_devices()
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    programs: dict[str, Compiled] = {}
    for line in sys.stdin:
        what, name = line.split()
        if name not in programs:
            programs[name] = Compiled(name)
        answer = programs[name].run() if what == "run" else programs[name].about
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
