"""How much of the physics' speed is left for training?

The ceiling is what a bare `vmap(env.step)` reaches on all devices at its best batch size, with no
policy, no resets and no episodes. Beside it, in this one process and in turn, whole generations are
timed (ask, rollouts, tell, statistics), and their useful steps a second divided by the ceiling:

    python benchmarks/rollouts.py [--environments hopper,trained-hopper,walker2d,humanoid,ant,...]
        [--populations 256,2048] [--lanes 64] [--cpu-devices N] [--repeats 5]
        [--output benchmarks/results/rollouts-cpu.json]

Populations at the start of training fall early, but for halfcheetah's, which cannot fall, and
ant's, which stands where the perturbations are small; `trained-` trains first, untimed. With
several devices the largest population is also run on one of them. Exits with 1 where a bar is
missed.
"""

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
from jaxes.core import TRAIN, TrainState
from jaxes.environments import BRAX_ENVIRONMENTS
from jaxes.environments import brax as brax_environment

BATCHES = (64, 128, 256)
CEILING_SECONDS = 0.5
SIGMA = {"ant": 0.02, "trained-hopper": 0.01}  # at which they stand; others are run with 0.1
TRAINING = 200  # generations of 256 members before a trained population is timed
FULL, EARLY = {256: 0.9}, {2048: 0.85}
# The least share of the ceiling, by environment and least population.
BARS = {
    "hopper": EARLY,
    "walker2d": EARLY,
    "humanoid": EARLY,
    "trained-hopper": FULL,
    "ant": FULL,
    "halfcheetah": FULL,
}
NAMES = [*BRAX_ENVIRONMENTS, *(f"trained-{name}" for name in BRAX_ENVIRONMENTS)]
UTILIZATION_BAR = 0.9  # where the ceiling's bar is that of early falls
DEVICES_BAR = 0.95  # of as many times as there are devices
COST_BAR = 0.95  # a smaller population's cost a member over this one's; the rest is noise


def physics(env_name: str) -> Callable[[], float]:
    """Measures steps a second of the bare environment on all devices, at its best batch size."""
    environment = brax_environment(env_name, "spring")

    def steps(state: Any, count: jax.Array) -> Any:
        batch = jax.tree.leaves(state)[0].shape[0]
        action = jnp.full((batch, environment.action_size), 0.1)
        return jax.lax.fori_loop(
            0, count, lambda _, state: jax.vmap(environment.step)(state, action)[0], state
        )

    def of_batch(batch: int) -> Callable[[], float]:
        def reset(key: jax.Array) -> Any:
            keys = jax.random.split(jax.random.fold_in(key, parallel.device_index()), batch)
            return jax.vmap(environment.reset)(keys)[0]

        start = jax.jit(parallel.replicated(reset))(parallel.place(jax.random.key(0)))
        count = parallel.place(jnp.int32(20))
        program, _ = machine.compiled(parallel.replicated(steps), start, count)

        def rate() -> float:
            started = time.monotonic()
            jax.block_until_ready(program(start, count))
            seconds = time.monotonic() - started
            return jax.local_device_count() * batch * int(count) / seconds

        rate()
        per_step = jax.local_device_count() * batch / rate()
        count = parallel.place(jnp.int32(CEILING_SECONDS / per_step))
        return rate

    rates = [of_batch(batch) for batch in BATCHES]
    return max(rates, key=lambda rate: statistics.median(rate() for _ in range(3)))


class Training:
    """Generations of one environment and population, always the same ones."""

    def __init__(self, name: str, population: int, lanes: int | None, devices: int | None = None):
        self.population = population
        self.num_generations = 1 if BARS.get(name) is FULL else 3
        self.mesh = jaxes.make_mesh(devices)
        problem = jaxes.problems.brax(
            name.removeprefix("trained-"), num_lanes=lanes, num_test_episodes=1
        )
        strategy = jaxes.openai_es(population, sigma=SIGMA.get(name, 0.1))
        self.start = jaxes.init(jax.random.key(0), strategy, problem, mesh=self.mesh)
        self.key, self.phase = parallel.place((jax.random.key(1), jnp.int32(TRAIN)), self.mesh)
        self.program, self.compile_seconds = machine.compiled(
            jaxes.make_update_step(strategy, problem, self.mesh),
            self.key,
            self.start,
            self.phase,
        )

    def train(self, num_generations: int) -> TrainState:
        """The state after so many generations."""
        state = self.start
        for generation in range(num_generations):
            key = parallel.place(jax.random.fold_in(self.key, generation), self.mesh)
            state, _ = jax.block_until_ready(self.program(key, state, self.phase))
        return state

    def generations(self) -> dict[str, float]:
        state, steps, utilization = self.start, 0, []
        started = time.monotonic()
        for _ in range(self.num_generations):
            state, metrics = self.program(self.key, state, self.phase)
            steps += int(metrics["rollout/env_steps"])
            utilization.append(float(metrics["rollout/utilization"]))
        seconds = time.monotonic() - started
        return {
            "steps_per_second": steps / seconds,
            "milliseconds": 1e3 * seconds / self.population / self.num_generations,
            "utilization": statistics.mean(utilization),
            "episode_length": steps / self.population / self.num_generations,
        }


def measure(training: Training, ceiling: Callable[[], float], repeats: int) -> dict:
    """Medians over the repeats, each between two measurements of the ceiling."""
    training.generations()
    rows, before = [], ceiling()
    for _ in range(repeats):
        row = training.generations()
        after = ceiling()
        rows.append(row | {"ceiling": (before + after) / 2})
        before = after
    medians = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    summary = summarize(
        training.population, [row["steps_per_second"] / row["ceiling"] for row in rows]
    )
    return summary | {"compile_seconds": training.compile_seconds} | medians


def speedup(one: Training, all_of_them: Training, repeats: int) -> dict:
    """How much faster the same generations are on all devices than on one."""
    one.generations(), all_of_them.generations()
    pairs = [
        (one.generations()["steps_per_second"], all_of_them.generations()["steps_per_second"])
        for _ in range(repeats)
    ]
    return summarize(one.population, [many / single for single, many in pairs])


def summarize(population: int, ratios: list[float]) -> dict:
    return {
        "population": population,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--environments", type=machine.some_of(NAMES), default=list(BARS))
    parser.add_argument("--populations", type=machine.counts, default=[256, 2048])
    parser.add_argument("--lanes", type=machine.count)
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--repeats", type=machine.count, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    rows = []

    def report(name: str, what: str, bar: float | None, row: dict) -> None:
        rows.append({"environment": name, "what": what, "bar": bar} | row)
        machine.write(options.output, cpu_devices=devices, rows=rows)
        low, high = row["ratio_range"]
        print(
            f"{name:15s} {row['population']:5d} members  {what:22s} {row['ratio']:.2f} "
            f"({low:.2f} to {high:.2f}, bar {bar})",
            flush=True,
        )

    for name in options.environments:
        ceiling = physics(name.removeprefix("trained-"))
        trained, cost = None, None
        if name.startswith("trained-"):
            trained = Training(name.removeprefix("trained-"), 256, options.lanes).train(TRAINING)
        for population in options.populations:
            training = Training(name, population, options.lanes)
            if trained:
                strategy = training.start.strategy._replace(mean=trained.strategy.mean)
                training.start = trained._replace(strategy=strategy)
            row = measure(training, ceiling, options.repeats)
            bars = BARS.get(name, {})
            report(name, "of the bare physics", machine.bar_for(bars, population), row)
            print(
                f"{row['steps_per_second']:9,.0f} steps/s, {row['milliseconds']:.3f} ms a member, "
                f"episodes of {row['episode_length']:.0f} steps, compilation "
                f"{row['compile_seconds']:.0f} s",
                flush=True,
            )
            demanded = bars is EARLY and machine.bar_for(bars, population)
            bar = UTILIZATION_BAR if demanded else None
            report(name, "lanes busy", bar, summarize(population, [row["utilization"]]))
            if cost:
                less = summarize(population, [cost / row["milliseconds"]])
                report(name, "less cost a member", COST_BAR, less)
            cost = row["milliseconds"]
        if devices > 1:
            one = Training(name, options.populations[-1], options.lanes, devices=1)
            one.start = parallel.place(training.start, one.mesh)
            row = speedup(one, training, options.repeats)
            report(name, f"{devices} devices over one", DEVICES_BAR * devices, row)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
