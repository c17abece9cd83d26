"""How well and how fast do planners act, with a true and with a learned model?

Parts, each row written as it comes; a row that the output has already is not made again:

    pendulum  Pendulum-v1, true model, 100 starts: 120 sequences a step against 2,000 and against
              random actions; CEM, CMA-ES and SNES
    time      milliseconds a plan in one episode, plans/s over many, and against an iCEM in NumPy of
              the same settings: one episode, and twenty, vectorized over them as well
    brax      true model on spring: inverted_pendulum, reacher; a step's time against the physics
    reach     without reading a reward: pendulum upright, reacher's tip at its target
    learned   continuous cartpole by a learned model, ten seeds; the reward learned too; one
              deterministic network; the best sequence executed instead of the mean

    python benchmarks/planning.py [--parts pendulum,time,brax,reach,learned] [--seeds 10]
        [--cpu-devices N] [--output benchmarks/results/planning-cpu.json]

Exits with 1 where a bar is missed.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import machine
import numpy as np

import jaxes
from jaxes.environments import brax, continuous_cartpole, pendulum
from jaxes.environments.quiet import quiet
from jaxes.planning import ensemble_model, planner, reach, sum_of_rewards, true_model
from jaxes.statistics import half_interval
from jaxes.training.metrics import read_rows

MEMBERS, ELITES, ITERATIONS, HORIZON, SIGMA, BETA = 40, 10, 3, 30, 0.5, 2.0
STEPS = 200

Row = dict
Rows = Iterator[tuple[str, Callable[[], Row]]]  # of a part: names, and what makes each


def cem(size: int = MEMBERS, elites: int = ELITES, sigma: float = SIGMA) -> jaxes.Strategy:
    return jaxes.cem(size, sigma=sigma, elite_fraction=elites / size)


def interval(values, repeats: int = 2000) -> list[float]:
    """95 % bootstrap interval of the median."""
    values = np.asarray(values, float)
    drawn = np.random.default_rng(0).choice(values, (repeats, values.size))
    return np.percentile(np.median(drawn, axis=1), [2.5, 97.5]).tolist()


def about(returns) -> Row:
    returns = np.asarray(returns, float)
    return {
        "mean": float(returns.mean()),
        "ci95": half_interval(returns),
        "median": float(np.median(returns)),
        "median_interval": interval(returns),
        "least": float(returns.min()),
        "episodes": int(returns.size),
    }


# Pendulum, true model.


def pendulum_row(strategy: jaxes.Strategy, iterations: int, bar: float | None) -> Row:
    environment = pendulum()
    plans = planner(strategy, horizon=HORIZON, iterations=iterations, beta=BETA)
    episodes = jaxes.control(
        environment, plans, true_model(environment), num_episodes=100, episode_length=STEPS
    )
    row = about(episodes.returns)
    return {**row, "bar": bar, "met": bar is None or row["mean"] >= bar}


def random_actions() -> Row:
    environment = pendulum()

    def run(key):
        state, _ = environment.reset(jax.random.fold_in(key, 0))

        def step(state, key):
            action = jax.random.uniform(key, (1,), minval=-1)
            state, _, reward, _ = environment.step(state, action)
            return state, reward

        return jax.lax.scan(step, state, jax.random.split(key, STEPS))[1].sum()

    keys = jax.random.split(jax.random.key(0), 100)
    return {**about(jax.jit(jax.vmap(run))(keys)), "met": True}


def pendulum_rows(seeds: int) -> Rows:
    searched = {
        "cem 40 x 3": (cem(), ITERATIONS, -200.0),
        "cem 400 x 5": (cem(400, 40), 5, None),
        "cma_es 40 x 3": (jaxes.cma_es(MEMBERS, sigma=SIGMA), ITERATIONS, -250.0),
        "snes 40 x 3": (jaxes.snes(MEMBERS, sigma=SIGMA), ITERATIONS, -250.0),
    }
    for name, arguments in searched.items():
        yield name, partial(pendulum_row, *arguments)
    yield "random actions", random_actions


# Time, and the same in NumPy.


class Icem:
    """iCEM on the pendulum in NumPy, for E episodes side by side (Pinneri et al. 2020, without the
    decay of the population and the kept elites, which `planner` has not either)."""

    def __init__(self, episodes: int, seed: int):
        self.rng = np.random.default_rng(seed)
        self.mean = np.zeros((episodes, HORIZON), np.float32)
        frequency = np.maximum(np.fft.rfftfreq(HORIZON), 1 / HORIZON)
        amplitude = frequency ** (-BETA / 2)
        whole = np.maximum(np.abs(np.fft.fftfreq(HORIZON)), 1 / HORIZON) ** (-BETA / 2)
        self.amplitude = (amplitude / np.sqrt(np.mean(whole**2))).astype(np.float32)

    def noise(self, episodes: int) -> np.ndarray:
        white = self.rng.standard_normal((episodes, MEMBERS, HORIZON), dtype=np.float32)
        return np.fft.irfft(np.fft.rfft(white, axis=2) * self.amplitude, HORIZON, axis=2)

    def plan(self, theta: np.ndarray, speed: np.ndarray) -> np.ndarray:
        mean = self.mean
        std = np.full_like(mean, SIGMA)
        best, best_value = mean, np.full(len(theta), -np.inf)
        rows = np.arange(len(theta))
        for _ in range(ITERATIONS):
            samples = mean[:, None] + std[:, None] * self.noise(len(theta)).astype(np.float32)
            actions = np.clip(samples, -1, 1)
            value = self.value(theta, speed, actions)
            elites = np.argpartition(-value, ELITES, axis=1)[:, :ELITES]
            chosen = np.take_along_axis(samples, elites[:, :, None], axis=1)
            mean, std = chosen.mean(axis=1), chosen.std(axis=1)
            fittest = value.argmax(axis=1)
            better = value[rows, fittest] > best_value
            best = np.where(better[:, None], actions[rows, fittest], best)
            best_value = np.maximum(best_value, value[rows, fittest])
        self.mean = np.clip(np.concatenate([mean[:, 1:], mean[:, -1:]], axis=1), -1, 1)
        return best[:, 0]

    def value(self, theta: np.ndarray, speed: np.ndarray, actions: np.ndarray) -> np.ndarray:
        torques = 2 * np.moveaxis(actions, 2, 0)  # [H, E, N]
        thetas, speeds = np.empty_like(torques), np.empty_like(torques)
        theta, speed = theta[:, None], speed[:, None]
        for h in range(HORIZON):
            thetas[h], speeds[h] = theta, speed
            speed = speeds[h] + DT * (15 * np.sin(thetas[h]) + 3 * torques[h])
            speed = np.minimum(np.maximum(speed, -8), 8)
            theta = thetas[h] + DT * speed
        return rewards(thetas, speeds, torques).sum(axis=0)


DT = np.float32(0.05)
TURN = np.float32(2 * np.pi)


def rewards(theta, speed, torque):
    wrapped = theta - TURN * np.floor(theta / TURN + np.float32(0.5))
    return -(wrapped * wrapped + 0.1 * speed * speed + 0.001 * torque * torque)


def numpy_step(theta, speed, action):
    torque = 2 * action
    reward = rewards(theta, speed, torque)
    speed = np.clip(speed + DT * (15 * np.sin(theta) + 3 * torque), -8, 8)
    return theta + DT * speed, speed, reward


def numpy_run(episodes: int, seed: int) -> tuple[float, np.ndarray]:
    """Seconds a plan, and the returns."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-np.pi, np.pi, episodes).astype(np.float32)
    speed = rng.uniform(-1, 1, episodes).astype(np.float32)
    plans, total = Icem(episodes, seed), np.zeros(episodes)
    started = time.perf_counter()
    for _ in range(STEPS):
        theta, speed, reward = numpy_step(theta, speed, plans.plan(theta, speed))
        total += reward
    return (time.perf_counter() - started) / STEPS / episodes, total


def time_row(episodes: int, repeats: int) -> Row:
    """Seconds a plan over so many episodes at once, beside NumPy's over as many, and over a loop of
    single ones, as its users write it."""
    environment, model = pendulum(), true_model(pendulum())
    plans = planner(cem(), horizon=HORIZON, iterations=ITERATIONS, beta=BETA)

    def ours(seed: int) -> tuple[float, np.ndarray]:
        started = time.perf_counter()
        found = jaxes.control(
            environment, plans, model, num_episodes=episodes, episode_length=STEPS, seed=seed
        )
        jax.block_until_ready(found)
        return (time.perf_counter() - started) / STEPS / episodes, np.asarray(found.returns)

    ours(0)
    mine, together, loop, returns = [], [], [], ([], [])
    for seed in range(repeats):
        for seconds, kept, (took, got) in [
            (mine, returns[0], ours(seed)),
            (together, returns[1], numpy_run(episodes, seed)),
            (loop, [], numpy_run(1, seed)),
        ]:
            seconds.append(took)
            kept.extend(got.tolist())
    least, middle, most = min(mine), statistics.median(mine), max(mine)

    def faster(theirs: list[float]) -> list[float]:
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        return [min(ratios), statistics.median(ratios), max(ratios)]

    row = {
        "ms_a_plan": [least * 1e3, middle * 1e3, most * 1e3],
        "plans_per_second": [1 / most, 1 / middle, 1 / least],
        "return_means": [statistics.mean(each) for each in returns],
        "numpy_ms_a_plan": statistics.median(together) * 1e3,
        "faster_than_numpy": faster(together),
        "faster_than_numpy_in_a_loop": faster(loop),
        "load": os.getloadavg()[0],
    }
    bars = {  # by medians
        1: middle * 1e3 <= 0.3 and row["faster_than_numpy"][1] >= 8,
        20: row["faster_than_numpy_in_a_loop"][1] >= 20,
        100: 1 / middle >= 5000,
    }
    return row | {"met": bars[episodes]}


def time_rows(seeds: int) -> Rows:
    for episodes in (1, 20, 100):
        name = f"{episodes} episode{'s at once' if episodes > 1 else ''}"
        yield name, partial(time_row, episodes, max(seeds, 5))


# Brax.


def least_seconds(program: Callable, *arguments) -> float:
    """Of five calls, after a first."""
    jax.block_until_ready(program(*arguments))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        times.append(time.perf_counter() - started)
    return min(times)


def seconds_of_physics(environment: jaxes.Environment, width: int, steps: int) -> float:
    """Of so many steps of so many lanes, nothing else."""
    state, _ = jax.jit(jax.vmap(environment.reset))(jax.random.split(jax.random.key(0), width))
    action = jnp.zeros((width, environment.num_outputs))

    def run(state):
        def step(state, _):
            return jax.vmap(environment.step)(state, action)[0], None

        return jax.lax.scan(step, state, length=steps)[0]

    return least_seconds(jax.jit(run).lower(state).compile(), state)


def tips(found) -> np.ndarray:
    """How far reacher's tip ends from its target, [E], in m."""
    last = np.arange(found.length.size), np.asarray(found.length)
    return np.linalg.norm(np.asarray(found.observations)[last][:, -3:], axis=1)


def centered(observation: jax.Array) -> jax.Array:
    """What inverted_pendulum's state is worth at a plan's end: position, angle and their speeds."""
    return -jnp.sum(jnp.array([1.0, 10.0, 0.1, 0.1]) * observation**2)


def brax_row(env_name: str, steps: int, horizon: int, value: Callable | None = None) -> Row:
    with quiet():
        environment = brax(env_name)
    model = true_model(environment)
    goal = sum_of_rewards(value=value)
    plans = planner(cem(), horizon=horizon, iterations=ITERATIONS, beta=BETA, objective=goal)
    found = jaxes.control(environment, plans, model, num_episodes=20, episode_length=steps)
    row = {**about(found.returns), "horizon": horizon}
    if env_name == "reacher":
        row |= {"tip": float(np.median(tips(found)))}
        row |= {"met": row["tip"] <= 0.02}
    else:
        whole = int(np.sum(np.asarray(found.returns) >= 1000))
        row |= {"at_1000": whole, "met": whole == 20}
    # One plan against as many steps of physics, at the same width.
    agent = plans.with_model(model)
    state, _ = jax.jit(environment.reset)(jax.random.key(0))
    arguments = (jax.random.key(0), (), state, agent.init())
    program = jax.jit(agent.plan).lower(*arguments).compile()
    seconds = least_seconds(program, *arguments)
    physics = seconds_of_physics(environment, MEMBERS, ITERATIONS * horizon)
    return row | {"ms_a_plan": seconds * 1e3, "of_physics": seconds / physics}


def brax_rows(seeds: int) -> Rows:
    yield "inverted_pendulum", partial(brax_row, "inverted_pendulum", 1000, 20)
    by_value = partial(brax_row, "inverted_pendulum", 1000, 20, centered)
    yield "inverted_pendulum, a value at the end", by_value
    yield "reacher", partial(brax_row, "reacher", 100, 15)


# Desired states.

UPRIGHT = {"target": (1.0, 0.0, 0.0), "weights": (1.0, 1.0, 0.1)}


def upright(when: str = "closest", horizon: int = HORIZON) -> Row:
    environment = pendulum()
    goal = reach(when=when, **UPRIGHT)
    plans = planner(cem(), horizon=horizon, iterations=ITERATIONS, beta=BETA, objective=goal)
    found = jaxes.control(
        environment, plans, true_model(environment), num_episodes=20, episode_length=STEPS
    )
    angle = np.arctan2(found.observations[:, -20:, 1], found.observations[:, -20:, 0])
    whole = np.asarray(found.length) == STEPS
    up = np.all(np.abs(angle) < 0.1, axis=1) & whole
    return {**about(found.returns), "upright_of_20": int(np.sum(up))}


def judged_upright() -> Row:
    row = upright()
    return row | {"met": row["upright_of_20"] >= 18}


def reached() -> Row:
    with quiet():
        arm = brax("reacher")
    size = jax.eval_shape(arm.reset, jax.random.key(0))[1].shape[0]
    # The last three numbers of an observation are from the tip to the target.
    goal = reach((0.0,) * size, "every_step", weights=(0.0,) * (size - 3) + (1.0,) * 3)
    plans = planner(cem(), horizon=15, iterations=ITERATIONS, beta=BETA, objective=goal)
    found = jaxes.control(arm, plans, true_model(arm), num_episodes=20, episode_length=100)
    far = sorted(tips(found).tolist())
    return {"tips": far, "tip": statistics.median(far), "met": statistics.median(far) <= 0.02}


def reach_rows(seeds: int) -> Rows:
    yield "pendulum upright for the last second", judged_upright
    for when in ("final", "every_step", "closest"):
        for horizon in (5, 15, 30):
            name = f"pendulum, {when}, horizon {horizon}"
            yield name, lambda when=when, horizon=horizon: upright(when, horizon) | {"met": True}
    yield "reacher by its tip", reached


# A learned model.


def learned(kind: str, seed: int, trials: int = 8, execute=None, **options) -> Row:
    environment = continuous_cartpole()
    plans = planner(cem(64, 10), horizon=15, iterations=3, beta=1.0, execute=execute)
    model = ensemble_model(environment, **options)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        jaxes.learn_to_control(
            environment,
            plans,
            model,
            num_trials=trials,
            episode_length=200,
            num_test_episodes=1,
            seed=seed,
            run_dir=directory,
        )
        rows, _ = read_rows(Path(directory) / "metrics.jsonl")
    return {
        "kind": kind,
        "met": True,
        "returns": [row["return/mean"] for row in rows],
        "bounded": [round(row["model/bounded"], 4) for row in rows],
        "seconds": time.perf_counter() - started,
    }


def learned_rows(seeds: int) -> Rows:
    kinds = {
        "reward and end given": ({}, seeds),
        "reward learned": ({"reward": "learned"}, seeds),
        "one deterministic network": ({"members": 1, "probabilistic": False}, min(seeds, 5)),
        "best executed": ({"execute": "best"}, min(seeds, 5)),
    }
    for kind, (options, count) in kinds.items():
        for seed in range(count):
            yield f"{kind}, seed {seed}", partial(learned, kind, seed, **options)


def judge_learned(rows: list[Row]) -> Iterator[Row]:
    by_kind: dict[str, list] = {}
    for row in rows:
        if row.get("kind"):
            by_kind.setdefault(row["kind"], []).append(row)
    for kind, found in by_kind.items():
        returns = np.array([row["returns"] for row in found])
        late = returns[:, 5:8].reshape(-1)
        medians = np.median(returns, axis=0)
        row = {
            "name": f"{kind}: all",
            "medians": medians.tolist(),
            "at_200_of_late": [int(np.sum(late >= 200)), int(late.size)],
            "seconds": [row["seconds"] for row in found],
            "met": True,
        }
        if kind == "reward and end given":
            row["met"] = bool(
                medians[2] >= 195
                and np.sum(late >= 200) >= 28 / 30 * late.size
                and np.median(late) == 200
                and statistics.median(row["seconds"]) <= 75
            )
        if kind == "reward learned":
            row["met"] = bool(medians[5] >= 195)
        yield row


def judge_pendulum(rows: list[Row]) -> Iterator[Row]:
    found = {row["name"]: row for row in rows if row["part"] == "pendulum"}
    if {"cem 40 x 3", "cem 400 x 5"} <= found.keys():
        behind = found["cem 400 x 5"]["mean"] - found["cem 40 x 3"]["mean"]
        yield {"name": "behind 400 x 5: all", "behind": behind, "met": behind <= 10}


PARTS = {
    "pendulum": pendulum_rows,
    "time": time_rows,
    "brax": brax_rows,
    "reach": reach_rows,
    "learned": learned_rows,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=machine.count, default=10)
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if jax.config.jax_platforms in (None, "", "cpu"):
        jaxes.use_cpu_devices(options.cpu_devices, small_loops=True)
    rows = [row for row in machine.rows_of(options.output) if not row["name"].endswith(": all")]
    parts = {part: PARTS[part](options.seeds) for part in options.parts}
    known = {row["name"] for row in rows}
    machine.measure(rows, parts, known, options.output, seeds=options.seeds)
    rows += [{"part": "learned", **row} for row in judge_learned(rows)]
    rows += [{"part": "pendulum", **row} for row in judge_pendulum(rows)]
    machine.write(options.output, seeds=options.seeds, rows=rows)
    machine.exit_by_met(rows)


if __name__ == "__main__":
    main()
