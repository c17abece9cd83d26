"""How much of the physics' speed is left for training?

The ceiling is what a bare `vmap(env.step)` reaches on all devices at its best batch size, with no
policy, no resets and no episodes. Beside it, in this one process and in turn, whole generations are
timed (ask, rollouts, tell, statistics), and their useful steps a second divided by the ceiling:

    python benchmarks/rollouts.py [--environments hopper,walker2d,ant,halfcheetah,humanoid]
        [--populations 256,2048] [--lanes 64] [--cpu-devices N] [--repeats 5]
        [--output benchmarks/results/rollouts-cpu.json]

Populations at the start of training fall early (all but halfcheetah's and a standing ant's). Exits
with 1 where a bar is missed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine

import jaxes
from jaxes import parallel
from jaxes.problems.brax_envs import brax_environment

BATCHES = (32, 64, 128)
CEILING_STEPS = 100
GENERATIONS = 3
SIGMA = {"ant": 0.02}  # at which an untrained ant stands; others fall early at 0.1
# The least share of the ceiling, by environment and least population.
BARS = {
    "ant": {256: 0.9},
    "halfcheetah": {256: 0.9},
    "hopper": {2048: 0.85},
    "walker2d": {2048: 0.85},
    "humanoid": {2048: 0.85},
}


def physics(env_name: str, batch: int) -> tuple[Callable[[], float], float]:
    """Steps a second of the bare environment on all devices, and the seconds of compilation."""
    environment = brax_environment(env_name, "spring")

    @parallel.replicated
    def steps(key: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(key, parallel.device_index()), batch)
        state, _ = jax.vmap(environment.reset)(keys)
        action = jnp.full((batch, environment.action_size), 0.1)

        def step(_: jax.Array, state: Any) -> Any:
            return jax.vmap(environment.step)(state, action)[0]

        state = jax.lax.fori_loop(0, CEILING_STEPS, step, state)
        return parallel.all_sum(sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state)))

    key = parallel.place(jax.random.key(0))
    program, compile_seconds = machine.compiled(steps, key)

    def rate() -> float:
        started = time.monotonic()
        jax.block_until_ready(program(key))
        return jax.local_device_count() * batch * CEILING_STEPS / (time.monotonic() - started)

    rate()
    return rate, compile_seconds


def training(env_name: str, population: int, lanes: int | None) -> tuple[Callable, float]:
    """Rows of some generations from the start of training: useful steps a second, ..."""
    problem = jaxes.problems.brax(env_name, num_lanes=lanes, num_test_episodes=1)
    strategy = jaxes.openai_es(population, sigma=SIGMA.get(env_name, 0.1))
    start = jaxes.init(jax.random.key(0), strategy, problem)
    key, test = parallel.place((jax.random.key(1), jnp.bool_(False)))
    program, compile_seconds = machine.compiled(
        jaxes.make_update_step(strategy, problem), key, start, test
    )

    def generations() -> dict[str, float]:
        state, steps, utilization = start, 0, []
        started = time.monotonic()
        for _ in range(GENERATIONS):
            state, metrics = program(key, state, test)
            steps += int(metrics["rollout/env_steps"])
            utilization.append(float(metrics["rollout/utilization"]))
        return {
            "steps_per_second": steps / (time.monotonic() - started),
            "utilization": statistics.mean(utilization),
            "episode_length": steps / population / GENERATIONS,
        }

    generations()
    return generations, compile_seconds


def measure(env_name: str, population: int, ceilings: list, options: Any) -> dict:
    generations, compile_seconds = training(env_name, population, options.lanes)
    rows, ratios = [], []
    for _ in range(options.repeats):
        row = generations()
        rows.append(row | {"ceiling": max(rate() for rate, _ in ceilings)})
        ratios.append(row["steps_per_second"] / rows[-1]["ceiling"])
    return {
        "environment": env_name,
        "population": population,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "bar": machine.bar_for(BARS.get(env_name, {}), population),
        "compile_seconds": compile_seconds,
    } | {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--environments", default=",".join(BARS))
    parser.add_argument("--populations", default="256,2048")
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--cpu-devices", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    rows = []
    for env_name in options.environments.split(","):
        ceilings = [physics(env_name, batch) for batch in BATCHES]
        for population in map(int, options.populations.split(",")):
            row = measure(env_name, population, ceilings, options)
            rows.append(row)
            low, high = row["ratio_range"]
            print(
                f"{env_name:12s} {population:5d} members  {row['steps_per_second']:9,.0f} steps/s "
                f"of {row['ceiling']:9,.0f}: {row['ratio']:.2f} ({low:.2f} to {high:.2f}, bar "
                f"{row['bar']})  utilization {row['utilization']:.2f}  episodes "
                f"{row['episode_length']:.0f} steps  compilation {row['compile_seconds']:.0f} s",
                flush=True,
            )
    machine.write(options.output, cpu_devices=devices, rows=rows)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
