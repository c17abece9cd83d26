"""The part of `reinforce.py` in which policies learn: Adam on each estimate."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from reinforce_settings import (
    BOTH,
    EPISODES,
    ESTIMATORS,
    HORIZONS,
    PAIRS,
    Gradient,
    Row,
    Rows,
    initial_params,
    over_devices,
    return_of,
)

from jaxes.statistics import half_interval

CURVES = ("REINFORCE", BOTH, "nes", PAIRS)
SEEDS, SEARCH_SEEDS = range(5), range(1000, 1002)
RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FIRST = RATES[2:7]  # those that a search begins with
UPDATES = {50: 300, 200: 300, 1000: 60}
TESTS = 30  # of a curve


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
        return jnp.mean(jax.vmap(partial(return_of, params, horizon=horizon))(keys))

    def leg(carry: tuple, key: Array) -> tuple[tuple, Array]:
        update_key, test_key = jax.random.split(key)
        carry, _ = jax.lax.scan(update, carry, jax.random.split(update_key, every))
        return carry, test(carry[0], test_key)

    first, *keys = jax.random.split(key, 1 + TESTS)
    before = test(params, first)
    _, after = jax.lax.scan(leg, (params, adam.init(params)), jnp.stack(keys))
    return jnp.append(before, after)


def at_the_end(curves: np.ndarray) -> np.ndarray:
    """The mean of the last three tests."""
    return curves[..., -3:].mean(axis=-1)


def search(returns_at: Callable[[Sequence[float]], Iterable[float]]) -> dict[float, float]:
    """Returns by learning rate: of the first five, and of each neighbor of the best, until both
    are known or there is none."""
    found: dict[float, float] = {}
    new: Sequence[float] = FIRST
    while new:
        returns = np.nan_to_num(list(returns_at(new)), nan=-np.inf)  # one that diverged is worst
        found |= dict(zip(new, returns.tolist(), strict=True))
        best = RATES.index(max(found, key=lambda rate: found[rate]))
        new = [rate for rate in RATES[max(best - 1, 0) : best + 2] if rate not in found]
    return dict(sorted(found.items()))


def curve_row(name: str, horizon: int) -> Row:
    started = time.monotonic()
    program = over_devices(partial(ascent, ESTIMATORS[name].at(horizon), horizon))

    def curves(seeds: range, rates: Sequence[float]) -> np.ndarray:
        """[rates, seeds, 1 + TESTS]."""
        runs = [
            (initial_params(i), jax.random.key(i), jnp.float32(r)) for r in rates for i in seeds
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
        return np.asarray(program(stacked)).reshape(len(rates), len(seeds), 1 + TESTS)

    searched = search(lambda rates: at_the_end(curves(SEARCH_SEEDS, rates)).mean(axis=1))
    rate = max(searched, key=lambda rate: searched[rate])
    found = curves(SEEDS, (rate,))[0]
    return {
        "estimator": name,
        "horizon": horizon,
        "learning_rate": rate,
        "at_edge": rate in (RATES[0], RATES[-1]),
        **returns_of(found),
        "searched_rates": list(searched),
        "searched_returns": list(searched.values()),
        "episodes": (np.arange(1 + TESTS) * (UPDATES[horizon] // TESTS) * EPISODES).tolist(),
        "seconds": time.monotonic() - started,
    }


def returns_of(curves: np.ndarray) -> Row:
    """What is told of curves [seeds, 1 + TESTS]."""
    end = at_the_end(curves)
    return {
        "return_at_end": float(end.mean()),
        "ci95": half_interval(end),
        "by_seed": end.tolist(),
        "return_at_start": float(curves[:, 0].mean()),
        "means": curves.mean(axis=0).tolist(),
        "halves": [half_interval(returns) for returns in curves.T],
    }


def curve_rows() -> Rows:
    for horizon in HORIZONS:
        for name in CURVES:
            yield f"{name}, {horizon} steps", partial(curve_row, name, horizon)
