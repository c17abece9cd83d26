"""How long does a generation take, against brax's own ES trainer?

Same environment, network (two layers of 32, observations normalized), members evaluated, episode
length and number of generations, both warm and one after the other in this process, generation by
generation from the start of training:

    python benchmarks/vs_brax_es.py [--environments hopper,walker2d,...] [--populations 256,2048]
        [--generations 20] [--cpu-devices N] [--brax-devices N]
        [--output benchmarks/results/vs-brax-es-cpu.json]

brax's trainer simulates all members for the whole episode length, whatever happens to them; it gets
all devices, or as many as --brax-devices says. Exits with 1 where a bar is missed.
"""

import argparse
import contextlib
import functools
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import machine

import jaxes
from jaxes import parallel
from jaxes.problems import brax_envs

EPISODE_LENGTH = 1000
SIGMA = 0.1
EARLY = {256: 2.5, 2048: 3.5}  # at least so many times faster, by the least population
BARS = {
    "hopper": EARLY,
    "walker2d": EARLY,
    "humanoid": {256: 5.0},
    "inverted_double_pendulum": {256: 5.0},
    "ant": {256: 1.0, 2048: 1.4},
}


def ours(env_name: str, population: int, generations: int) -> tuple[list[float], float]:
    """Seconds of each generation, and of compilation."""
    problem = jaxes.problems.brax(env_name, num_test_episodes=1, episode_length=EPISODE_LENGTH)
    strategy = jaxes.openai_es(population, sigma=SIGMA, learning_rate=0.01)
    state = jaxes.init(jax.random.key(0), strategy, problem)
    key, test = parallel.place((jax.random.key(1), jnp.bool_(False)))
    update_step = jaxes.make_update_step(strategy, problem)
    step, compile_seconds = machine.compiled(update_step, key, state, test)
    jax.block_until_ready(step(key, state, test))
    seconds = []
    for generation in range(generations):
        key = parallel.place(jax.random.fold_in(jax.random.key(1), generation))
        started = time.monotonic()
        state, _ = jax.block_until_ready(step(key, state, test))
        seconds.append(time.monotonic() - started)
    return seconds, compile_seconds


def theirs(
    env_name: str, population: int, generations: int, devices: int | None
) -> tuple[list[float], float]:
    """The same of brax's trainer, from what it reports after each generation."""
    with brax_envs.quiet():
        from brax import envs
        from brax.training.agents.es import networks, train

        environment = envs.get_environment(env_name, backend="spring")
    seconds: list[float] = []
    warm_up = 2  # it compiles in both

    class EnoughError(Exception):
        pass

    def progress(_: int, metrics: dict) -> None:
        if "training/sps" in metrics:
            seconds.append(float(population * EPISODE_LENGTH / metrics["training/sps"]))
        if len(seconds) == generations + warm_up:
            raise EnoughError

    many = 10**9  # it stops by steps alone; with as many evaluations it reports each generation
    run = functools.partial(
        train.train,
        environment,
        num_timesteps=many,
        num_evals=many,
        episode_length=EPISODE_LENGTH,
        population_size=population // 2,  # of pairs
        perturbation_std=SIGMA,
        learning_rate=0.01,
        normalize_observations=True,
        num_eval_envs=1,
        max_devices_per_host=devices,
        network_factory=functools.partial(
            networks.make_es_networks, hidden_layer_sizes=(32, 32), activation=jnp.tanh
        ),
        progress_fn=progress,
    )
    with contextlib.suppress(EnoughError):
        run()
    return seconds[warm_up:], sum(seconds[:warm_up])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--environments", default=",".join(BARS))
    parser.add_argument("--populations", default="256,2048")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--cpu-devices", type=int)
    parser.add_argument("--brax-devices", type=int)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    settings = vars(options) | {"output": str(options.output)}
    rows = []
    for env_name in options.environments.split(","):
        for population in map(int, options.populations.split(",")):
            mine, my_compilation = ours(env_name, population, options.generations)
            peer, peer_compilation = theirs(
                env_name, population, options.generations, options.brax_devices
            )
            ratios = [them / us for us, them in zip(mine, peer, strict=True)]
            row = {
                "environment": env_name,
                "population": population,
                "seconds": [sum(mine) / len(mine), sum(peer) / len(peer)],
                "ratio": sum(peer) / sum(mine),
                "ratio_range": [min(ratios), max(ratios)],
                "ratio_median": statistics.median(ratios),
                "bar": machine.bar_for(BARS.get(env_name, {}), population),
                "compile_seconds": [my_compilation, peer_compilation],
            }
            rows.append(row)
            print(
                f"{env_name:25s} {population:5d} members  {row['seconds'][0]:7.3f} s against "
                f"{row['seconds'][1]:7.3f} a generation: {row['ratio']:.1f} times faster "
                f"({min(ratios):.1f} to {max(ratios):.1f}, bar {row['bar']})  compilation "
                f"{my_compilation:.0f} and {peer_compilation:.0f} s",
                flush=True,
            )
            machine.write(options.output, cpu_devices=devices, options=settings, rows=rows)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
