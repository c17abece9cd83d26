"""Policy gradients beside evolution: how near does an estimate of 64 episodes come to the gradient?

REINFORCE samples actions, evolution samples parameters, both estimate a gradient from returns
alone. The same environment (`pendulum` without its time limit), the same network (one hidden layer
of 32, 161 parameters), the same number of episodes an estimate, each its own start; horizons of 50,
200 and 1,000 steps. REINFORCE, with and without a baseline (the mean of the other episodes) and
reward-to-go, has the objective E[return] under Gaussian noise of the actions, evolution that under
Gaussian noise of the parameters; each is compared with the gradient of its own objective.

Parts, each row written as it comes; rows that the output has already are not measured again:

    policy     what the two policies earn, and how much the noises of actions and parameters change
    reference  of each objective, the mean of 1,564 estimates (100,096 episodes) by its least noisy
               unbiased estimator, and how exact it is: the cosine of its two halves, and from that
               its own cosine with the true gradient; beside its length the slope in its direction
               by differences of returns
    gradient   200 other estimates by each estimator: the mean of their cosines with the reference
               and its interval, and the signal-to-noise ratio |∇J|² / tr Cov; also the derivative
               through the physics, which is no black box
    noise      in how many directions the noise of an estimate lies
    curve      returns of the policy without noise, 5 seeds: Adam on each estimate, its learning
               rate the best of five over 2 other seeds by the return at the end

Gradients are taken at two policies: `initial` is the network's initialization, `trained` one that
20 generations of CEM have found. The verdicts at the end say what falls with the horizon.

    python benchmarks/reinforce.py [--parts policy,reference,gradient,noise,curve]
        [--cpu-devices N] [--output benchmarks/results/reinforce-cpu.json]
        [--draw docs/policy_gradients.svg]

With --draw nothing is measured: the picture is drawn from the output.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
import reinforce_estimator
from jax import Array
from jax.flatten_util import ravel_pytree
from reinforce_estimator import gaussian_log_prob, less_the_others, play

import jaxes
from jaxes import parallel
from jaxes.devices import num_cores
from jaxes.environments import Environment, pendulum
from jaxes.policies import Policy, mlp
from jaxes.statistics import half_interval

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]
Gradient = Callable[[Array, Array], Array]  # (params [D], key) -> an estimate [D]

EPISODES = 64  # an estimate
HORIZONS = (50, 200, 1000)
ACTION_STD, SIGMA = 0.3, 0.1  # of the noise of actions, of parameters
REFERENCE, ESTIMATES = 1564, 200  # batches of 64 episodes
CHUNK = 100  # estimates in a call: nothing else bounds memory
SEEDS, SEARCH_SEEDS = 5, 2
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
UPDATES = {50: 300, 200: 300, 1000: 60}
TESTS = 30  # of a curve
ACTIONS, PARAMETERS = "noise of actions", "noise of parameters"  # the objectives


# The problem.


def endless(environment: Environment) -> Environment:
    """The same without its time limit: it ends where `done_fn` says so."""

    def step(env_state: Any, action: Array) -> tuple:
        env_state, observation, reward, _ = environment.step(env_state, action)
        return env_state, observation, reward, environment.done_fn(observation)

    return environment._replace(step=step)


ENVIRONMENT = endless(pendulum())
NETWORK = mlp((32,))


@functools.cache
def network() -> tuple[Policy, Callable[[Array], Any]]:
    """The policy, and its parameters from a vector [D]."""
    with jax.ensure_compile_time_eval():  # wherever it is called first
        policy = NETWORK(observation_size=3, action_size=1)
        return policy, ravel_pytree(policy.init(jax.random.key(0)))[1]


def initial_params(seed: int) -> Array:
    return ravel_pytree(network()[0].init(jax.random.key(seed)))[0]


def action_of(params: Array, observation: Array) -> Array:
    """The policy without noise."""
    policy, unravel = network()
    return policy.apply(unravel(params), (), observation)[0]


def plain_action(params: Array, key: Array, observation: Array) -> Array:
    del key
    return action_of(params, observation)


def noisy_action(params: Array, key: Array, observation: Array) -> Array:
    mean = action_of(params, observation)
    return mean + ACTION_STD * jax.random.normal(key, mean.shape)


def return_of(params: Array, horizon: int, key: Array, noisy: bool = False) -> Array:
    """Of one episode."""
    act = noisy_action if noisy else plain_action
    return jnp.sum(play(ENVIRONMENT, partial(act, params), horizon, key).rewards)


@functools.cache
def point(name: str) -> Array:
    """The parameters at which gradients are taken."""
    if name == "initial":
        return initial_params(0)
    problem = jaxes.problems.policy_search(
        pendulum(), NETWORK, num_episodes=4, episode_length=200, normalize_observations=False
    )
    strategy = jaxes.cem(64, sigma=0.5)
    mean = jaxes.train(problem, strategy, num_generations=20).state.strategy.mean
    return jnp.asarray(np.asarray(mean))  # on no mesh


# Estimates of a gradient, each of 64 episodes.


def policy_gradient(horizon: int, baseline: bool, reward_to_go: bool) -> Gradient:
    """REINFORCE."""

    def log_prob(params: Array, observation: Array, action: Array) -> Array:
        return gaussian_log_prob(action, action_of(params, observation), ACTION_STD)

    def estimate(params: Array, key: Array) -> Array:
        one = partial(play, ENVIRONMENT, partial(noisy_action, params), horizon)
        episodes = jax.vmap(one)(jax.random.split(key, EPISODES))
        kind = {"baseline": baseline, "reward_to_go": reward_to_go}
        return reinforce_estimator.gradient(log_prob, params, episodes, **kind)

    return estimate


def evolution_gradient(strategy: jaxes.Strategy, horizon: int, pairs: bool) -> Gradient:
    """By `ask` and `tell`: with a learning rate of 1, the mean moves by the estimate. The members
    of a pair meet the same start, all others one of their own."""

    def estimate(params: Array, key: Array) -> Array:
        ask_key, play_key = jax.random.split(key)
        state = strategy.init(params)
        members = strategy.ask(ask_key, state)
        keys = jax.random.split(play_key, EPISODES // 2 if pairs else EPISODES)
        keys = jnp.repeat(keys, 2) if pairs else keys
        returns = jax.vmap(lambda params, key: return_of(params, horizon, key))(members, keys)
        return strategy.tell(ask_key, state, returns).mean - params

    return estimate


def derivative(horizon: int) -> Gradient:
    """Of returns themselves, through actions and physics; the noise of actions stays as drawn."""

    def estimate(params: Array, key: Array) -> Array:
        keys = jax.random.split(key, EPISODES)
        returns = jax.vmap(lambda params, key: return_of(params, horizon, key, True), (None, 0))
        return jax.grad(lambda params: jnp.mean(returns(params, keys)))(params)

    return estimate


class Estimator(NamedTuple):
    objective: str
    at: Callable[[int], Gradient]  # at a horizon


def evolution(make: Callable[..., jaxes.Strategy], pairs: bool = False, **options) -> Estimator:
    strategy = make(EPISODES, sigma=SIGMA, learning_rate=1.0, **options)
    return Estimator(PARAMETERS, lambda horizon: evolution_gradient(strategy, horizon, pairs))


def reinforce(baseline: bool, reward_to_go: bool) -> Estimator:
    return Estimator(ACTIONS, lambda horizon: policy_gradient(horizon, baseline, reward_to_go))


RAW = {"weights": "raw", "optimizer": "sgd", "weight_decay": 0.0}
BOTH, PAIRS = "REINFORCE, baseline and reward-to-go", "openai_es, pairs"
ESTIMATORS = {
    "REINFORCE": reinforce(False, False),
    "REINFORCE, reward-to-go": reinforce(False, True),
    "REINFORCE, baseline": reinforce(True, False),
    BOTH: reinforce(True, True),
    "nes": evolution(jaxes.nes),
    "nes, baseline": evolution(jaxes.nes, weights=less_the_others),
    PAIRS: evolution(jaxes.openai_es, pairs=True, sampling="antithetic", **RAW),
    "derivative through the physics": Estimator(ACTIONS, derivative),
}
# Those of least noise, but for the derivative, which has far more from 200 steps on.
OF_REFERENCE = {ACTIONS: BOTH, PARAMETERS: PAIRS}
CURVES = ("REINFORCE", BOTH, "nes", PAIRS)


# Reference and cosines.


def over_devices(fn: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """`fn` of each row, one after another, divided among the devices."""
    return jax.jit(parallel.replicated(partial(parallel.map_divided, fn)))


def estimates(name: str, where: str, horizon: int, count: int, seed: int) -> np.ndarray:
    """So many of that estimator, float64 [count, D], at a policy and a horizon."""
    program = over_devices(partial(ESTIMATORS[name].at(horizon), point(where)))
    key = jax.random.fold_in(jax.random.key(seed), horizon)
    chunks = []
    for start in range(0, count, CHUNK):
        numbers = jnp.arange(start, min(start + CHUNK, count))
        chunks.append(np.asarray(program(jax.vmap(partial(jax.random.fold_in, key))(numbers))))
    return np.concatenate(chunks).astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> Any:
    """Of vectors [..., D]."""
    return np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@functools.cache
def reference(objective: str, where: str, horizon: int) -> tuple[np.ndarray, float]:
    """The gradient [D] of an objective, and the cosine of its two halves."""
    found = estimates(OF_REFERENCE[objective], where, horizon, REFERENCE, seed=1)
    halves = found[: REFERENCE // 2].mean(axis=0), found[REFERENCE // 2 :].mean(axis=0)
    return found.mean(axis=0), float(cosine(*halves))


def slopes(
    objective: str, where: str, horizon: int, direction: np.ndarray, episodes: int = 8192
) -> np.ndarray:
    """Of single episodes, whose mean is the objective's slope in a direction of length 1: central
    differences, in which an episode's start and noise stay the same. No score is in them."""
    params, step = point(where), 0.001 * jnp.asarray(direction, jnp.float32)

    def one(key: Array) -> Array:
        middle, noisy = params, objective == ACTIONS
        if not noisy:
            noise_key, key = jax.random.split(key)
            middle = params + SIGMA * jax.random.normal(noise_key, params.shape)
        ends = (return_of(middle + sign * step, horizon, key, noisy) for sign in (1, -1))
        return (next(ends) - next(ends)) / 0.002

    keys = jax.random.split(jax.random.key(4), (episodes // EPISODES, EPISODES))
    return np.asarray(over_devices(jax.vmap(one))(keys), np.float64).ravel()


def reference_row(objective: str, where: str, horizon: int) -> Row:
    started = time.monotonic()
    gradient, halves = reference(objective, where, horizon)
    norm = float(np.linalg.norm(gradient))
    along = slopes(objective, where, horizon, gradient / norm)
    return {
        "objective": objective,
        "policy": where,
        "horizon": horizon,
        "estimator": OF_REFERENCE[objective],
        "episodes": REFERENCE * EPISODES,
        "norm": norm,
        "slope_along_it": float(along.mean()),
        "slope_ci95": half_interval(along),
        "cosine_of_halves": halves,
        # Halves g + e and g + e' with |e|² = |e'|² = x |g|² have the cosine 1/(1 + x), and their
        # mean has 1/sqrt(1 + x/2) with g.
        "cosine_with_truth": float(np.sqrt(2 * halves / (1 + halves))) if halves > 0 else 0.0,
        "seconds": time.monotonic() - started,
    }


def gradient_row(name: str, where: str, horizon: int) -> Row:
    objective = ESTIMATORS[name].objective
    truth, _ = reference(objective, where, horizon)
    started = time.monotonic()
    found = estimates(name, where, horizon, ESTIMATES, seed=2)
    found = found[np.isfinite(found).all(axis=1)]  # a derivative may overflow
    cosines = cosine(found, truth)
    signal, noise = np.sum(truth**2), np.sum(found.var(axis=0, ddof=1))
    return {
        "estimator": name,
        "policy": where,
        "horizon": horizon,
        "cosine": float(cosines.mean()),
        "ci95": half_interval(cosines),
        "signal_to_noise": float(signal / noise),
        "cosine_of_mean": float(cosine(found.mean(axis=0), truth)),
        "estimates": len(found),
        "seconds": time.monotonic() - started,
    }


POINTS = ("initial", "trained")


def policy_row(where: str, horizon: int = 200, episodes: int = 1024) -> Row:
    """What the policy earns, and how much the two noises change: actions, and returns."""
    params = point(where)

    def one(key: Array) -> dict[str, Array]:
        member = params + SIGMA * jax.random.normal(jax.random.fold_in(key, 0), params.shape)
        episode = play(ENVIRONMENT, partial(plain_action, params), horizon, key)
        moved = jax.vmap(partial(action_of, member))(episode.observations) - episode.actions
        return {
            "return": jnp.sum(episode.rewards),
            "return_with_noise_of_actions": return_of(params, horizon, key, noisy=True),
            "return_with_noise_of_parameters": return_of(member, horizon, key),
            "squares": jnp.mean(moved**2),
        }

    keys = jax.random.split(jax.random.key(3), episodes)
    found = {name: float(np.mean(x)) for name, x in over_devices(one)(keys).items()}
    rms = found.pop("squares") ** 0.5
    noise = {"action_std": ACTION_STD, "sigma": SIGMA, "actions_change_by_sigma": rms}
    return {"policy": where, "horizon": horizon, "episodes": episodes, **found, **noise}


def policy_rows() -> Rows:
    for where in POINTS:
        yield f"{where} policy", partial(policy_row, where)


def reference_rows() -> Rows:
    for where in POINTS:
        for objective in OF_REFERENCE:
            for horizon in HORIZONS:
                name = f"{where}: {objective}, {horizon} steps"
                yield name, partial(reference_row, objective, where, horizon)


def gradient_rows() -> Rows:
    for where in POINTS:
        for horizon in HORIZONS:
            for name in ESTIMATORS:
                row = partial(gradient_row, name, where, horizon)
                yield f"{where}: {name}, {horizon} steps", row


def directions(samples: np.ndarray) -> float:
    """In how many directions a noise of covariance C lies: (tr C)² / tr C², D where it is isotropic
    and 1 where it is a line. From independent estimates [K, D]: y_i, differences of two of them
    over the root of 2, have no mean and the covariance C, and E[(y_i · y_j)²] = tr C²."""
    y = (samples[0::2] - samples[1::2]) / np.sqrt(2)
    squares = (y @ y.T) ** 2
    count = len(y)
    of_squares = (squares.sum() - np.trace(squares)) / (count * (count - 1))
    return float(np.mean(np.sum(y**2, axis=1)) ** 2 / of_squares)


def noise_row(name: str, where: str, horizon: int) -> Row:
    found = estimates(name, where, horizon, ESTIMATES, seed=2)
    about = {"estimator": name, "policy": where, "horizon": horizon}
    return {**about, "directions": directions(found), "parameters": found.shape[1]}


def noise_rows() -> Rows:
    for where in POINTS:
        for name in OF_REFERENCE.values():
            row = partial(noise_row, name, where, HORIZONS[0])
            yield f"{where}: directions of the noise of {name}", row


# Return curves.


def ascent(gradient: Gradient, horizon: int, run: tuple[Array, Array, Array]) -> Array:
    """Test returns [1 + TESTS] of Adam from initial parameters, with a key and a learning rate."""
    params, key, rate = run
    every = UPDATES[horizon] // TESTS
    adam = optax.scale_by_adam()

    def update(carry: tuple, key: Array) -> tuple[tuple, None]:
        params, state = carry
        step, state = adam.update(gradient(params, key), state)
        return (params + rate * step, state), None

    def test(params: Array, key: Array) -> Array:
        keys = jax.random.split(key, EPISODES)
        return jnp.mean(jax.vmap(partial(return_of, params, horizon))(keys))

    def leg(carry: tuple, key: Array) -> tuple[tuple, Array]:
        update_key, test_key = jax.random.split(key)
        carry, _ = jax.lax.scan(update, carry, jax.random.split(update_key, every))
        return carry, test(carry[0], test_key)

    first, *keys = jax.random.split(key, 1 + TESTS)
    before = test(params, first)
    _, after = jax.lax.scan(leg, (params, adam.init(params)), jnp.stack(keys))
    return jnp.append(before, after)


def curve_row(name: str, horizon: int) -> Row:
    started = time.monotonic()
    program = over_devices(partial(ascent, ESTIMATORS[name].at(horizon), horizon))

    def curves(seeds: range, rates: tuple[float, ...]) -> np.ndarray:
        """[rates, seeds, 1 + TESTS]."""
        runs = [
            (initial_params(i), jax.random.key(i), jnp.float32(r)) for r in rates for i in seeds
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
        return np.asarray(program(stacked)).reshape(len(rates), len(seeds), 1 + TESTS)

    searched = at_the_end(curves(range(1000, 1000 + SEARCH_SEEDS), RATES)).mean(axis=1)
    rate = RATES[int(np.argmax(searched))]
    found = curves(range(SEEDS), (rate,))[0]
    end = at_the_end(found)
    episodes = np.arange(1 + TESTS) * (UPDATES[horizon] // TESTS) * EPISODES
    return {
        "estimator": name,
        "horizon": horizon,
        "learning_rate": rate,
        "return_at_end": float(end.mean()),
        "ci95": half_interval(end),
        "by_seed": end.tolist(),
        "return_at_start": float(found[:, 0].mean()),
        "searched_returns": searched.tolist(),
        "episodes": episodes.tolist(),
        "means": found.mean(axis=0).tolist(),
        "halves": [half_interval(returns) for returns in found.T],
        "seconds": time.monotonic() - started,
    }


def at_the_end(curves: np.ndarray) -> np.ndarray:
    """The mean of the last three tests."""
    return curves[..., -3:].mean(axis=-1)


def curve_rows() -> Rows:
    for horizon in HORIZONS:
        for name in CURVES:
            yield f"{name}, {horizon} steps", partial(curve_row, name, horizon)


# What the rows say together.


def difference(name: str, ours: float, theirs: float, *halves: float) -> Row:
    """With its interval from those of its parts, which are independent."""
    half = float(np.linalg.norm(halves))
    found = {"difference": ours - theirs, "ci95": half}
    return {"name": name, **found, "above_0": ours - theirs > half, "below_0": theirs - ours > half}


def growth(rows: list[Row]) -> list[Row]:
    """Lengths of the gradient and of an estimate's noise, sqrt(tr Cov), by horizon."""
    found = {row["name"]: row for row in rows}
    told = []
    for where in POINTS:
        for name, (objective, _) in ESTIMATORS.items():
            signal, noise = [], []
            for horizon in HORIZONS:
                row = found.get(f"{where}: {name}, {horizon} steps")
                truth = found.get(f"{where}: {objective}, {horizon} steps")
                if row and truth:
                    signal.append(truth["norm"])
                    noise.append(truth["norm"] / row["signal_to_noise"] ** 0.5)
            told.append({"name": f"{where}: {name}", "signal": signal, "noise": noise})
    return [{"part": "growth", "horizons": list(HORIZONS), **row} for row in told]


def verdicts(rows: list[Row]) -> list[Row]:
    """How much cosines fall from the shortest horizon to the longest; who falls by more; and who
    comes further with equal episodes."""
    found = {row["name"]: row for row in rows}
    first, last = HORIZONS[0], HORIZONS[-1]
    told = []
    for where in POINTS:
        falls = {}
        for name in ESTIMATORS:
            ends = [found.get(f"{where}: {name}, {horizon} steps") for horizon in (first, last)]
            if all(ends):
                cosines, halves = zip(*((row["cosine"], row["ci95"]) for row in ends), strict=True)
                title = f"{where}: {name}: {first} steps less {last}"
                falls[name] = difference(title, *cosines, *halves)
        told += falls.values()
        if BOTH in falls and PAIRS in falls:
            title = f"{where}: {BOTH} falls by more than {PAIRS}"
            ours, theirs = falls[BOTH], falls[PAIRS]
            parts = [(row["difference"], row["ci95"]) for row in (ours, theirs)]
            told.append(difference(title, *(x for x, _ in parts), *(half for _, half in parts)))
    for horizon in HORIZONS:
        pair = [found.get(f"{name}, {horizon} steps") for name in (BOTH, PAIRS)]
        if all(pair):
            ends, halves = zip(*((row["return_at_end"], row["ci95"]) for row in pair), strict=True)
            told.append(difference(f"return, {BOTH} less {PAIRS}, {horizon}", *ends, *halves))
    return [{"part": "verdict", **row} for row in told]


def draw(rows: list[Row], path: Path) -> None:
    """Cosines over horizons at each policy, and return curves at the middle horizon."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "jaxes"  # the same picture to the byte, whenever it is drawn
    colors = dict(zip(ESTIMATORS, plt.get_cmap("tab10").colors, strict=False))
    fig, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for ax, where in zip(axes, POINTS, strict=False):
        for name in ESTIMATORS:
            mine = [row for row in rows if row["part"] == "gradient" and row["policy"] == where]
            mine = [row for row in mine if row["estimator"] == name]
            values = [[row[key] for row in mine] for key in ("horizon", "cosine", "ci95")]
            style = "--" if ESTIMATORS[name].objective == PARAMETERS else "-"
            ax.errorbar(*values[:2], yerr=values[2], fmt=style, color=colors[name], label=name)
        ax.set(xscale="log", ylim=(-0.25, 1.05))
        ax.set(xlabel="horizon, steps", title=f"{where} policy")
        ax.set_xticks(HORIZONS, [f"{horizon:,}" for horizon in HORIZONS])
        ax.minorticks_off()
    axes[0].set_ylabel("cosine with its own gradient")
    for row in rows:
        if row["part"] == "curve" and row["horizon"] == HORIZONS[1]:
            means, halves = np.array(row["means"]), np.array(row["halves"])
            color = colors[row["estimator"]]
            axes[2].plot(row["episodes"], means, color=color)
            axes[2].fill_between(
                row["episodes"], means - halves, means + halves, color=color, alpha=0.2, lw=0
            )
    axes[2].set(xlabel="episodes", ylabel="return without noise", title=f"{HORIZONS[1]} steps")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    fig.savefig(path, metadata={"Date": None})


PARTS = {
    "policy": policy_rows,
    "reference": reference_rows,
    "gradient": gradient_rows,
    "noise": noise_rows,
    "curve": curve_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--cpu-devices", type=int, default=num_cores())
    parser.add_argument("--output", type=Path)
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args()
    if options.draw:
        return draw(machine.rows_of(options.output), options.draw)
    # Devices alone: the flags of `jaxes.use_cpu_devices` are for physics, and with them the matrix
    # products of gradients took twice as long.
    jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    rows = [row for row in machine.rows_of(options.output) if row["part"] in PARTS]
    parts = {part: PARTS[part]() for part in options.parts.split(",")}
    machine.measure(rows, parts, {row["name"] for row in rows}, options.output)
    rows += growth(rows) + verdicts(rows)
    machine.write(options.output, rows=rows)
    return None


if __name__ == "__main__":
    main()
