"""Does the quickstart solve its environment with each strategy, how fast, and where does time go?

Runs the installed command `jaxes train configs/quickstart.yaml` as a user would, once a strategy
and seed, one after another, and then measures the parts of a generation:

    python benchmarks/quickstart.py [--seeds 5] [--output benchmarks/results/quickstart-cpu.json]
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import machine

import jaxes
from jaxes.config import run as config
from jaxes.core import Population

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
STRATEGIES = ("cem", "cma_es", "openai_es")


def train(strategy: str, seed: int, directory: str) -> dict:
    """One whole process of the command line; `process_seconds` is its wall-clock."""
    command = [sys.executable, "-m", "jaxes.cli", "train", str(CONFIG), "--json"]
    command += ["--run-dir", f"{directory}/{strategy}-{seed}", "--cache-dir", "none"]
    command += ["--set", f"strategy.name={strategy}", "--set", f"training.seed={seed}"]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    return row | {"strategy": strategy, "seed": seed, "process_seconds": time.monotonic() - started}


def profile(strategy_name: str, repeats: int = 5) -> dict:
    """Median seconds of the parts of a first generation, each compiled on its own."""
    problem, strategy, _ = config.load(CONFIG, (f"strategy.name={strategy_name}",)).build()
    key = jax.random.key(0)
    state = jax.jit(lambda key: jaxes.init(key, strategy, problem))(key)
    fitness = jax.random.normal(key, (strategy.population_size,))

    def evaluate(key, state):
        population = Population(strategy.ask, key, state.strategy, strategy.population_size)
        return problem.evaluate(key, population, state.problem)

    parts = {
        "ask": lambda key, state: strategy.ask(key, state.strategy),
        "tell": lambda key, state: strategy.tell(key, state.strategy, fitness),
        "evaluate": evaluate,
        "whole update step": jaxes.make_update_step(strategy, problem),
    }
    seconds = {}
    for name, part in parts.items():
        program, compile_seconds = machine.compiled(part, key, state)
        times = []
        for repeat in range(repeats):
            started = time.monotonic()
            jax.block_until_ready(program(jax.random.key(repeat), state))
            times.append(time.monotonic() - started)
        seconds[name] = {"run": statistics.median(times), "compile": compile_seconds}
    return seconds


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--seeds", type=machine.count, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for strategy in STRATEGIES:
            for seed in range(options.seeds):
                rows.append(row := train(strategy, seed, directory))
                print(
                    f"{strategy:10s} seed {seed}  return {row['return_mean']:8.1f} "
                    f"± {row['return_ci95']:6.1f} (zero policy {row['zero_policy_return']:6.1f})  "
                    f"generations {row['generation']:4d}  steps {row['env_steps']:10,d}  "
                    f"seconds {row['process_seconds']:6.1f} "
                    f"(compilation {row['compile_seconds']:5.1f})",
                    flush=True,
                )
    profiles = {strategy: profile(strategy) for strategy in STRATEGIES}
    for strategy, parts in profiles.items():
        for part, seconds in parts.items():
            print(f"{strategy:10s} {part:18s} {seconds['run']:9.5f} s")
    machine.write(options.output, runs=rows, profile=profiles)


if __name__ == "__main__":
    main()
