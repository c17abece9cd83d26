"""How long does a generation take, against brax's own ES trainer and evosax's Brax problem?

Same environment, network (two layers of 32, observations normalized), members evaluated, episode
length and number of generations, both sides warm, and generation by generation in turn, from the
start of training:

    python benchmarks/vs_brax_es.py [--environments hopper,walker2d,...] [--populations 256,2048]
        [--peers brax,brax-one-device,evosax] [--generations 20] [--cpu-devices N]
        [--output benchmarks/results/vs-brax-es-cpu.json]

Both peers simulate all members for the whole episode length, whatever happens to them. They get all
devices (evosax's members are divided over a mesh, which its users do themselves), except
`brax-one-device`, which is what brax's trainer uses on a CPU by default. Exits with 1 where a bar
is missed.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import machine
import optax

import jaxes
from jaxes import parallel
from jaxes.core import TRAIN
from jaxes.environments import BRAX_ENVIRONMENTS, brax
from jaxes.environments.quiet import quiet

EPISODE_LENGTH = 1000
HIDDEN = (32, 32)
SIGMA, LEARNING_RATE = 0.1, 0.01
WARM_UP = 2  # generations of a peer that are not counted: brax's trainer compiles in both
EARLY = {256: 2.5, 2048: 3.5}  # at least so many times faster, by the least population
BARS = {
    "hopper": EARLY,
    "walker2d": EARLY,
    "humanoid": {256: 5.0},
    "inverted_double_pendulum": {256: 5.0},
    "ant": {256: 1.0, 2048: 1.4},
}

Turn = Callable[[float], bool]  # takes a generation's seconds, and says whether there is another


class Ours:
    """The update step, generation by generation from the start of training."""

    def __init__(self, env_name: str, population: int):
        problem = jaxes.problems.brax(env_name, num_test_episodes=1, episode_length=EPISODE_LENGTH)
        strategy = jaxes.openai_es(population, sigma=SIGMA, learning_rate=LEARNING_RATE)
        self.start = jaxes.init(jax.random.key(0), strategy, problem)
        self.phase = parallel.place(jnp.int32(TRAIN))
        self.program, self.compile_seconds = machine.compiled(
            jaxes.make_update_step(strategy, problem), *self._arguments(self.start), self.phase
        )
        jax.block_until_ready(self.program(*self._arguments(self.start), self.phase))
        self.restart()

    def _arguments(self, state: jaxes.TrainState) -> tuple[jax.Array, jaxes.TrainState]:
        return parallel.place(jax.random.fold_in(jax.random.key(1), state.generation)), state

    def restart(self) -> None:
        self.state = self.start

    def generation(self) -> float:
        """Seconds."""
        arguments = self._arguments(self.state)
        started = time.monotonic()
        self.state, _ = jax.block_until_ready(self.program(*arguments, self.phase))
        return time.monotonic() - started


def brax_es(env_name: str, population: int, turn: Turn, devices: int | None = None) -> None:
    """brax's trainer, from what it reports after each generation."""
    with quiet():
        from brax import envs
        from brax.training.agents.es import networks, train

        environment = envs.get_environment(env_name, backend="spring")

    class EnoughError(Exception):
        pass

    def progress(_: int, metrics: dict) -> None:
        if "training/sps" in metrics:
            seconds = float(population * EPISODE_LENGTH / metrics["training/sps"])
            if not turn(seconds):
                raise EnoughError

    many = 10**9  # it stops by steps alone; with as many evaluations it reports each generation
    with contextlib.suppress(EnoughError):
        train.train(
            environment,
            num_timesteps=many,
            num_evals=many,
            episode_length=EPISODE_LENGTH,
            population_size=population // 2,  # of pairs
            perturbation_std=SIGMA,
            learning_rate=LEARNING_RATE,
            normalize_observations=True,
            num_eval_envs=1,
            max_devices_per_host=devices,
            network_factory=functools.partial(
                networks.make_es_networks, hidden_layer_sizes=HIDDEN, activation=jnp.tanh
            ),
            progress_fn=progress,
        )


class Policy(nn.Module):
    """evosax's networks have no final tanh of the right size; this is ours."""

    action_size: int

    @nn.compact
    def __call__(self, observation: jax.Array, key: jax.Array) -> jax.Array:
        for size in HIDDEN:
            observation = nn.tanh(nn.Dense(size)(observation))
        return nn.tanh(nn.Dense(self.action_size)(observation))


def evosax_es(env_name: str, population: int, turn: Turn) -> None:
    """evosax's Brax problem, its members divided over all devices.

    A generation is one program, so that of the states that it stacks only observations are kept.
    """
    from evosax.algorithms import Open_ES
    from evosax.problems import BraxProblem

    action_size = brax(env_name, "spring").action_size
    problem = BraxProblem(env_name, Policy(action_size), episode_length=EPISODE_LENGTH)
    key = jax.random.key(0)
    solution = problem.sample(key)
    algorithm = Open_ES(
        population,
        solution,
        optimizer=optax.adam(LEARNING_RATE),
        std_schedule=optax.constant_schedule(SIGMA),
    )
    params = algorithm.default_params
    members = jax.NamedSharding(parallel.make_mesh(), jax.P(parallel.MEMBER))

    @jax.jit
    def generation(key: jax.Array, carry: tuple) -> tuple:
        state, problem_state = carry
        ask_key, evaluate_key, tell_key = jax.random.split(key, 3)
        solutions, state = algorithm.ask(ask_key, state, params)
        solutions = jax.lax.with_sharding_constraint(solutions, members)
        fitness, problem_state, _ = problem.eval(evaluate_key, solutions, problem_state)
        state, _ = algorithm.tell(tell_key, solutions, -fitness, state, params)
        return state, problem_state

    carry = algorithm.init(key, solution, params), problem.init(key)
    number, again = 0, True
    while again:
        started = time.monotonic()
        carry = jax.block_until_ready(generation(jax.random.fold_in(key, number), carry))
        number, again = number + 1, turn(time.monotonic() - started)


PEERS = {
    "brax": brax_es,
    "brax-one-device": functools.partial(brax_es, devices=1),
    "evosax": evosax_es,
}


def compare(ours: Ours, peer: str, env_name: str, population: int, generations: int) -> dict:
    """Generations of both in turn."""
    ours.restart()
    mine: list[float] = []
    theirs: list[float] = []

    def turn(seconds: float) -> bool:
        theirs.append(seconds)
        if len(theirs) > WARM_UP:
            mine.append(ours.generation())
        return len(mine) < generations

    PEERS[peer](env_name, population, turn)
    warm_up, theirs = theirs[:WARM_UP], theirs[WARM_UP:]
    ratios = [them / us for us, them in zip(mine, theirs, strict=True)]
    bar = machine.bar_for(BARS.get(env_name, {}), population)
    return {
        "environment": env_name,
        "population": population,
        "peer": peer,
        "generations": generations,
        "seconds": [sum(mine) / generations, sum(theirs) / generations],
        "ratio": sum(theirs) / sum(mine),
        "ratio_range": [min(ratios), max(ratios)],
        "ratio_median": statistics.median(ratios),
        "bar": bar and (2 * bar if peer == "brax-one-device" else bar),
        "compile_seconds": [ours.compile_seconds, sum(warm_up)],
    }


def main() -> None:
    parser = machine.parser(__doc__)
    parser.add_argument(
        "--environments", type=machine.some_of(BRAX_ENVIRONMENTS), default=list(BARS)
    )
    parser.add_argument("--populations", type=machine.counts, default=[256, 2048])
    parser.add_argument("--peers", type=machine.some_of(PEERS), default=list(PEERS))
    parser.add_argument("--generations", type=machine.count, default=20)
    parser.add_argument("--cpu-devices", type=machine.count)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    devices = jaxes.use_cpu_devices(options.cpu_devices)
    settings = vars(options) | {"output": str(options.output)}
    rows = []
    for env_name in options.environments:
        for population in options.populations:
            ours = Ours(env_name, population)
            for peer in options.peers:
                row = compare(ours, peer, env_name, population, options.generations)
                rows.append(row)
                (mine, theirs), (low, high) = row["seconds"], row["ratio_range"]
                print(
                    f"{env_name:25s} {population:5d} members  {mine:7.3f} s against {peer:15s} "
                    f"{theirs:7.3f} a generation: {row['ratio']:.1f} times faster "
                    f"({low:.1f} to {high:.1f}, bar {row['bar']})  compilation "
                    f"{row['compile_seconds'][0]:.0f} and {row['compile_seconds'][1]:.0f} s",
                    flush=True,
                )
                machine.write(options.output, cpu_devices=devices, options=settings, rows=rows)
    machine.exit_by_bars(rows)


if __name__ == "__main__":
    main()
