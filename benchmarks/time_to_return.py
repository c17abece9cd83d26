"""How long from a cold start to a return of 1,500 on hopper, against brax's own ES trainer?

The zero policy, which stands, has 995; 1,500 is only for what hops.

Each run is a process of its own with nothing compiled before; its time is from its start to the
first test of the mean policy that reaches the target, compilation and tests included:

    python benchmarks/time_to_return.py [--seeds 5] [--target 1500] [--sigma 0.05]
        [--learning-rate 0.02] [--output benchmarks/results/time-to-return-cpu.json]

Both sides have the same population, network, step size, learning rate (of Adam), ranked fitness and
tests of twenty episodes without noise, every few generations; both use all devices. Exits with 1
where the bar is missed.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import machine

import jaxes
from jaxes.environments.quiet import quiet

ENVIRONMENT = "hopper"
POPULATION, EPISODE_LENGTH = 256, 1000
TEST_EVERY, TEST_EPISODES = 5, 20
LIMIT = 500  # generations, after which a run has failed
BAR = 3.0
UNREACHED = 3  # exit code of a run that failed


def ours(seed: int, target: float, sigma: float, learning_rate: float) -> bool:
    """Whether it reached the target."""
    result = jaxes.train(
        jaxes.problems.brax(ENVIRONMENT, num_test_episodes=TEST_EPISODES),
        jaxes.openai_es(POPULATION, sigma=sigma, learning_rate=learning_rate),
        num_generations=LIMIT,
        seed=seed,
        test_every=TEST_EVERY,
        target_return=target,
    )
    return result.generation < LIMIT


def theirs(seed: int, target: float, sigma: float, learning_rate: float) -> bool:
    with quiet():
        from brax import envs
        from brax.training.agents.es import networks, train

        environment = envs.get_environment(ENVIRONMENT, backend="spring")

    class ReachedError(Exception):
        pass

    def progress(_: int, metrics: dict) -> None:
        if metrics["eval/episode_reward"] >= target:
            raise ReachedError

    generation = POPULATION * EPISODE_LENGTH  # steps, if no member falls
    try:
        train.train(
            environment,
            num_timesteps=LIMIT * generation,
            num_evals=LIMIT // 2,  # by steps: every two generations or, while members fall, more
            episode_length=EPISODE_LENGTH,
            population_size=POPULATION // 2,  # of pairs
            perturbation_std=sigma,
            learning_rate=learning_rate,
            seed=seed,
            fitness_shaping=train.FitnessShaping.CENTERED_RANK,
            normalize_observations=True,
            num_eval_envs=TEST_EPISODES,
            deterministic_eval=True,
            network_factory=functools.partial(
                networks.make_es_networks, hidden_layer_sizes=(32, 32), activation=jnp.tanh
            ),
            progress_fn=progress,
        )
    except ReachedError:
        return True
    return False


SIDES = {"jaxes": ours, "brax": theirs}


def time_of(side: str, seed: int, options: argparse.Namespace) -> dict:
    """One process from its start to its end."""
    command = [sys.executable, __file__, "--side", side, "--seed", str(seed)]
    for name in ("target", "sigma", "learning_rate"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    started = time.monotonic()
    code = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode
    if code not in (0, UNREACHED):
        raise SystemExit(f"{side}, seed {seed}: exit code {code}")
    seconds = time.monotonic() - started
    return {"side": side, "seed": seed, "seconds": seconds, "reached": code == 0}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--seeds", type=machine.count, default=5)
    parser.add_argument("--target", type=float, default=1500)
    parser.add_argument("--sigma", type=machine.positive, default=0.05)
    parser.add_argument("--learning-rate", type=machine.positive, default=0.02)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", choices=SIDES, help="run one side alone, in this process")
    parser.add_argument("--seed", type=int, default=0, help="of that side")
    options = parser.parse_args()
    if options.side:
        jaxes.use_cpu_devices()
        numbers = options.target, options.sigma, options.learning_rate
        sys.exit(0 if SIDES[options.side](options.seed, *numbers) else UNREACHED)
    settings = vars(options) | {"output": str(options.output)}
    runs = []
    for seed in range(options.seeds):
        for side in SIDES:
            runs.append(run := time_of(side, seed, options))
            print(f"seed {seed}  {side:6s} {run['seconds']:6.1f} s  {run['reached']}", flush=True)
            machine.write(options.output, options=settings, runs=runs, rows=[])
    seconds = {side: [run["seconds"] for run in runs if run["side"] == side] for side in SIDES}
    ratios = [them / us for us, them in zip(seconds["jaxes"], seconds["brax"], strict=True)]
    ratio = statistics.median(seconds["brax"]) / statistics.median(seconds["jaxes"])
    if not all(run["reached"] for run in runs if run["side"] == "jaxes"):
        ratio = 0.0  # brax's failures only make it faster than it is
    for side in SIDES:
        failed = [run["seed"] for run in runs if run["side"] == side and not run["reached"]]
        if failed:
            print(f"{side} did not reach it within {LIMIT} generations: seeds {failed}")
    print(f"{ratio:.1f} times faster ({min(ratios):.1f} to {max(ratios):.1f}, bar {BAR})")
    rows = [{"ratio": ratio, "ratio_range": [min(ratios), max(ratios)], "bar": BAR}]
    machine.write(options.output, options=settings, runs=runs, rows=rows)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
