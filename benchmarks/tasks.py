"""Does it help to search in many related tasks and environments at once?

Parts, each row written as it comes; rows that the output has already are not measured again:

    trap            a point runs into a deceptive trap of half width 2: who escapes that was trained
                    on it alone, and who was trained on a mixture of widths up to it? 20 seeds each,
                    equal episodes, and whatever other strategies, step sizes and mixtures come to
    generalization  inverted_pendulum and hopper, masses x U(0.5, 2), friction and gravity x
                    U(0.7, 1.3): 1, 4 and 16 systems a generation, the same number of episodes; the
                    mean and the 10 % quantile over 100 unseen systems, and the base system
    peer            brax's own ES on inverted_pendulum with the same randomization and steps
    speed           steps a second in randomized systems, against the plain one, in turn

    python benchmarks/tasks.py [--parts trap,generalization,peer,speed] [--seeds 20]
        [--cpu-devices N] [--output benchmarks/results/tasks-cpu.json]

Exits with 1 where a bar of the trap is missed.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import scipy.stats

import jaxes
from jaxes import parallel
from jaxes.core import TEST, TRAIN, Population
from jaxes.environments import Environment, brax, trap
from jaxes.environments.quiet import quiet
from jaxes.policies import Policy, PolicyFactory, mlp
from jaxes.randomize import gravity, randomized, scale, uniform
from jaxes.statistics import half_interval

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]

GENERATIONS, EPISODES = 200, 256  # of the trap, a generation
SIGMA, LEARNING_RATE = 0.02, 0.02
AT_MOST, AT_LEAST = 0.2, 0.9  # of the seeds that escape: trained on the target, on the mixture


# The trap.


def small_network(observation_size: int, action_size: int) -> Policy:
    """tanh of 3-8-2 on the observation and 1, from small parameters: what is behind the wall is not
    found before the wall is met."""

    def init(key: jax.Array) -> dict[str, jax.Array]:
        shapes = {"hidden": (observation_size + 1, 8), "output": (8, action_size)}
        keys = jax.random.split(key)
        return {
            name: 0.1 * jax.random.normal(key, shape)
            for key, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    def apply(params: Any, state: tuple, observation: jax.Array) -> tuple[jax.Array, tuple]:
        hidden = jnp.tanh(jnp.append(observation, 1.0) @ params["hidden"])
        return jnp.tanh(hidden @ params["output"]), state

    return Policy(init, (), apply)


def trap_row(
    environment: Environment,
    strategy: Callable[[int], jaxes.Strategy],
    num_episodes: int,
    seeds: int,
    generations: int = GENERATIONS,
    bar: str | None = None,
    policy: PolicyFactory = small_network,
) -> Row:
    """Of searches in that environment, how many escape its base system."""
    problem = jaxes.problems.policy_search(
        environment,
        policy,
        num_episodes=num_episodes,
        episode_length=100,
        num_test_episodes=1,
        normalize_observations=False,
    )
    searches = jaxes.sweep(
        problem,
        strategy(EPISODES // num_episodes),
        num_seeds=seeds,
        num_generations=generations,
        test_every=generations,
        checkpoint_every=generations,
    )
    escaped = sum(result.measures["escaped"] > 0 for result in searches.results)
    met = {None: True, "most": escaped <= AT_MOST * seeds, "least": escaped >= AT_LEAST * seeds}
    return {
        "escaped": int(escaped),
        "seeds": seeds,
        "x": [round(result.return_mean, 2) for result in searches.results],
        "env_steps": sum(result.env_steps for result in searches.results),
        "seconds": searches.seconds,
        "met": met[bar],
    }


def widths(low: float, high: float, opening: float = 2.0) -> Environment:
    """The target, randomized."""
    return randomized(trap(2.0, opening), uniform("width", low, high))


def trap_rows(seeds: int) -> Rows:
    def openai_es(sigma: float, learning_rate: float = LEARNING_RATE) -> Callable:
        return functools.partial(jaxes.openai_es, sigma=sigma, learning_rate=learning_rate)

    ours = openai_es(SIGMA)
    row = functools.partial(trap_row, seeds=seeds)
    target, mixture = trap(2.0, 2.0), widths(0.05, 2.0)
    yield "target, openai_es", functools.partial(row, target, ours, 1, bar="most")
    yield "mixture, openai_es", functools.partial(row, mixture, ours, 4, bar="least")
    yield "target, mlp", functools.partial(row, target, ours, 1, policy=mlp((8,)))
    yield "mixture, mlp", functools.partial(row, mixture, ours, 4, policy=mlp((8,)))
    yield "target, 4 x the generations", functools.partial(row, target, ours, 1, generations=800)
    wide = openai_es(5 * SIGMA)
    yield "target, sigma x 5", functools.partial(row, target, wide, 1)
    yield "mixture, sigma x 5", functools.partial(row, mixture, wide, 4)
    yield "mixture of wide traps", functools.partial(row, widths(1.0, 2.0), ours, 4)
    yield "target, opening 1.5", functools.partial(row, trap(2.0, 1.5), ours, 1)
    yield "mixture, opening 1.5", functools.partial(row, widths(0.05, 2.0, 1.5), ours, 4)
    others = {"cem": jaxes.cem, "cma_es": jaxes.cma_es, "snes": jaxes.snes}
    for name, strategy in others.items():
        chosen = functools.partial(strategy, sigma=0.1)
        yield f"target, {name}", functools.partial(row, target, chosen, 1)
        yield f"mixture, {name}", functools.partial(row, mixture, chosen, 4)


# Generalization.

RANGES = (
    scale("link.inertia.mass", 0.5, 2.0)
    | scale("geom_friction", 0.7, 1.3, shared=True, name="friction")
    | gravity(0.7, 1.3)
)
MASSES = scale("link.inertia.mass", 0.5, 2.0) | gravity(0.7, 1.3)  # where nothing touches a floor
BUDGET = {
    "inverted_pendulum": (256, 40, 10),
    "hopper": (256, 40, 5),
}  # episodes, generations, seeds


def environment_of(env_name: str) -> Environment:
    return randomized(brax(env_name), MASSES if env_name == "inverted_pendulum" else RANGES)


def search(env_name: str, systems: int) -> tuple[jaxes.Problem, jaxes.SweepResult]:
    episodes, generations, seeds = BUDGET[env_name]
    problem = jaxes.problems.policy_search(
        environment_of(env_name), mlp((16, 16)), num_episodes=systems, num_test_episodes=100
    )
    strategy = jaxes.openai_es(episodes // systems, sigma=0.1, learning_rate=0.05)
    return problem, jaxes.sweep(
        problem,
        strategy,
        num_seeds=seeds,
        num_generations=generations,
        test_every=generations,
        checkpoint_every=generations,
    )


def held_out(problem: jaxes.Problem, searches: jaxes.SweepResult) -> dict[str, np.ndarray]:
    """Returns in the same 100 unseen systems and in the base system, `[seeds, 100]`."""

    def test(state: jaxes.TrainState) -> dict[str, jax.Array]:
        population = Population(lambda *_: jnp.zeros((1, 1)), jax.random.key(0), state.strategy, 4)
        key = jax.random.key(12345)
        tests = problem.evaluate(key, population, state.problem, TEST).tests
        return {name: each.returns for name, each in tests.items()}

    (states,) = searches.states
    returns = [
        jax.jit(parallel.replicated(test))(jax.tree.map(lambda leaf, i=i: leaf[i], states))
        for i in range(len(searches.results))
    ]
    return {name: np.stack([each[name] for each in returns]) for name in returns[0]}


def spread(values: np.ndarray) -> Row:
    """Mean and interval over seeds."""
    about = {"mean": float(values.mean()), "ci95": half_interval(values)}
    return about | {"by_seed": values.round(1).tolist()}


def about(returns: np.ndarray) -> Row:
    """Of returns [seeds, 100] in unseen systems."""
    quantiles = np.quantile(returns, 0.1, axis=1)
    return {"mean": spread(returns.mean(axis=1)), "quantile_10": spread(quantiles)}


def generalization_row(env_name: str, systems: int) -> Row:
    problem, searches = search(env_name, systems)
    returns = held_out(problem, searches)
    return {
        "unseen": about(returns["randomized"]),
        "base": spread(returns["base"].mean(axis=1)),
        "env_steps": [result.env_steps for result in searches.results],
        "seconds": searches.seconds,
        "met": True,
    }


def generalization_rows(seeds: int) -> Rows:
    del seeds
    for env_name in BUDGET:
        for systems in (1, 4, 16):
            name = f"{env_name}, {systems} systems a generation"
            yield name, functools.partial(generalization_row, env_name, systems)


# brax's own ES.


def masses_and_gravity(system: Any, rng: jax.Array) -> tuple[Any, Any]:
    """`MASSES` in the form that brax's trainers take."""

    @jax.vmap
    def draw(key: jax.Array) -> Any:
        drawn = MASSES(key, system)
        return drawn.link.inertia.mass, drawn.gravity

    changed = dict(zip(("link.inertia.mass", "gravity"), draw(rng), strict=True))
    axes = jax.tree.map(lambda _: None, system).tree_replace(dict.fromkeys(changed, 0))
    return system.tree_replace(changed), axes


def peer_trained(seed: int, episodes: int, steps: int) -> tuple[Policy, Any]:
    """Its policy for one of ours, and the parameters."""
    with quiet():
        from brax import envs
        from brax.training.acme import running_statistics
        from brax.training.agents.es import networks, train

        factory = functools.partial(
            networks.make_es_networks, hidden_layer_sizes=(16, 16), activation=jnp.tanh
        )
        environment = envs.get_environment("inverted_pendulum", backend="spring")
        _, params, _ = train.train(
            environment,
            num_timesteps=steps,
            episode_length=1000,
            population_size=episodes // 2,  # of pairs
            perturbation_std=0.1,
            learning_rate=0.05,
            normalize_observations=True,
            num_evals=2,
            num_eval_envs=1,
            seed=seed,
            network_factory=factory,
            randomization_fn=masses_and_gravity,
        )
        made = factory(
            environment.observation_size,
            environment.action_size,
            preprocess_observations_fn=running_statistics.normalize,
        )
        params = jax.device_get(params)  # which its trainer has spread over devices
        acts = networks.make_inference_fn(made)(params, deterministic=True)
    policy = Policy(
        init=lambda key: jnp.zeros(1),
        initial_state=(),
        apply=lambda _, state, observation: (acts(observation, jax.random.key(0))[0], state),
    )
    return policy, params


def systems_of_slots() -> Row:
    """What brax's trainer makes of a randomization: a system a slot, drawn once; slot i is member
    i of every generation."""
    with quiet():
        from brax import envs
        from brax.envs.wrappers.training import DomainRandomizationVmapWrapper

        environment = envs.get_environment("inverted_pendulum", backend="spring")
        draws = functools.partial(masses_and_gravity, rng=jax.random.split(jax.random.key(0), 8))
        wrapped = DomainRandomizationVmapWrapper(environment, draws)
    masses = np.asarray(wrapped._sys_v.link.inertia.mass)
    wrapped.reset(jax.random.split(jax.random.key(1), 8))
    after = np.asarray(wrapped._sys_v.link.inertia.mass)
    return {
        "masses_by_slot": masses.round(3).tolist(),
        "differ": bool(len(np.unique(masses, axis=0)) == 8),
        "same_after_another_reset": bool(np.array_equal(masses, after)),
        "met": True,
    }


def peer_row(seeds: int, part: float) -> Row:
    """With that part of the steps that our episodes would take if none ended early."""
    env_name = "inverted_pendulum"
    episodes, generations, _ = BUDGET[env_name]
    steps = round(part * episodes * 1000 * generations)
    returns = []
    started = time.monotonic()
    for seed in range(seeds):
        policy, _ = peer_trained(seed, episodes, steps)
        problem = jaxes.problems.policy_search(
            environment_of(env_name),
            lambda *_, policy=policy: policy,
            num_test_episodes=100,
            normalize_observations=False,
        )
        state = jaxes.init(jax.random.key(0), jaxes.snes(4), problem)
        whole = jax.tree.map(lambda leaf: leaf[None], state)
        one = jaxes.SweepResult([None], [whole], None, 0.0, 0.0)
        returns.append(held_out(problem, one)["randomized"][0])
    return {
        "unseen": about(np.stack(returns)),
        "env_steps": steps,
        "seconds": time.monotonic() - started,
        "met": True,
    }


def peer_rows(seeds: int) -> Rows:
    del seeds
    yield "brax ES: systems of its slots", systems_of_slots
    row = functools.partial(peer_row, BUDGET["inverted_pendulum"][2])
    yield "brax ES: inverted_pendulum", functools.partial(row, 1.0)
    yield "brax ES: inverted_pendulum, half the steps", functools.partial(row, 0.5)


# Speed.

LEAVES = {
    "mass": scale("link.inertia.mass", 0.5, 2.0),
    "friction": scale("geom_friction", 0.7, 1.3, shared=True),
    "gravity": gravity(0.7, 1.3),
    "gear": scale("actuator.gear", 0.9, 1.1),
    "mass, friction, gravity": RANGES,
}


MEMBERS = {"hopper": 1024, "ant": 128}  # whose generations take seconds


class Timed:
    """Generations from the start of training, in one environment."""

    def __init__(self, environment: Environment, members: int):
        problem = jaxes.problems.policy_search(environment, num_test_episodes=1)
        strategy = jaxes.openai_es(members, sigma=0.1, learning_rate=0.05)
        self.state = jaxes.init(jax.random.key(0), strategy, problem)
        self.key, self.phase = parallel.place((jax.random.key(1), jnp.int32(TRAIN)))
        step = jaxes.make_update_step(strategy, problem)
        self.program, _ = machine.compiled(step, self.key, self.state, self.phase)
        self.rate()

    def rate(self) -> float:
        """Steps a second of a generation."""
        started = time.monotonic()
        _, metrics = jax.block_until_ready(self.program(self.key, self.state, self.phase))
        return float(metrics["rollout/env_steps"]) / (time.monotonic() - started)


def speed_row(env_name: str, leaf: str, repeats: int = 7) -> Row:
    environment, members = brax(env_name), MEMBERS[env_name]
    plain = Timed(environment, members)
    drawn = Timed(randomized(environment, LEAVES[leaf]), members)
    pairs = [(plain.rate(), drawn.rate()) for _ in range(repeats)]
    ratios = [ours / theirs for theirs, ours in pairs]
    return {
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "steps_per_second": statistics.median(ours for _, ours in pairs),
        "plain_steps_per_second": statistics.median(theirs for theirs, _ in pairs),
        "met": True,
    }


def speed_rows(seeds: int) -> Rows:
    del seeds
    for env_name, leaves in {"hopper": LEAVES, "ant": ["mass, friction, gravity"]}.items():
        for leaf in leaves:
            yield f"{env_name}, {leaf}", functools.partial(speed_row, env_name, leaf)


# What the rows say together.


def difference(ours: list[float], theirs: list[float]) -> Row:
    """Of means over seeds, with its interval by Welch's t."""
    mean = float(np.mean(ours) - np.mean(theirs))
    half = 0.0
    if np.ptp(ours) or np.ptp(theirs):
        low, high = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
        half = float(high - low) / 2
    return {"difference": mean, "ci95": half, "above_0": mean > half}


def verdicts(rows: list[Row]) -> list[Row]:
    """The aims: whether each is met, once its rows are there. They do not decide the exit code."""
    found = {row["name"]: row for row in rows}
    told = []
    for env_name in BUDGET:
        pair = [found.get(f"{env_name}, {systems} systems a generation") for systems in (16, 1)]
        for what in ("quantile_10", "mean") if all(pair) else ():
            ours, theirs = (row["unseen"][what]["by_seed"] for row in pair)
            name = f"{env_name}, 16 systems less 1: {what}"
            told.append({"name": name, **difference(ours, theirs)})
    # Ours of 4 systems took 4.8 M steps, theirs of half the steps 5.1 M: episodes end early here.
    for systems, peer in ((16, ""), (4, ", half the steps")):
        names = (
            f"inverted_pendulum, {systems} systems a generation",
            f"brax ES: inverted_pendulum{peer}",
        )
        pair = [found.get(name) for name in names]
        for what in ("quantile_10", "mean") if all(pair) else ():
            ours, theirs = (row["unseen"][what]["by_seed"] for row in pair)
            name = f"ours of {systems} systems less brax ES{peer}: {what}"
            told.append({"name": name, **difference(ours, theirs)})
    return [{"part": "verdict", "met": True, **row} for row in told]


PARTS = {
    "trap": trap_rows,
    "speed": speed_rows,
    "generalization": generalization_rows,
    "peer": peer_rows,
}


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument("--parts", type=machine.some_of(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=machine.count, default=20)
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if jax.config.jax_platforms in (None, "", "cpu"):
        jaxes.use_cpu_devices(options.cpu_devices)
    rows = [row for row in machine.rows_of(options.output) if row["part"] != "verdict"]
    known = {row["name"] for row in rows if row.get("seeds", options.seeds) == options.seeds}
    parts = {part: PARTS[part](options.seeds) for part in options.parts}
    machine.measure(rows, parts, known, options.output)
    rows += verdicts(rows)
    machine.write(options.output, rows=rows)
    machine.exit_by_met(rows)


if __name__ == "__main__":
    main()
