"""Parts of `reinforce.py` at a fixed policy: references, the cosines of estimates with them, and
the shape of their noise."""

import functools
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from reinforce_estimator import rollout
from reinforce_settings import (
    ACTION_STD,
    ACTIONS,
    ENVIRONMENT,
    EPISODES,
    ESTIMATORS,
    HORIZONS,
    OF_REFERENCE,
    POINTS,
    SIGMA,
    Row,
    Rows,
    action_of,
    over_devices,
    plain_action,
    point,
    return_of,
)

from jaxes.statistics import half_interval

REFERENCE, ESTIMATES = 1564, 200  # estimates, of 64 episodes each
CHUNK = 100  # estimates in a call: nothing else bounds memory


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


def total_variance(found: np.ndarray) -> float:
    """tr Cov of one estimate, from K of them [K, D]."""
    return float(np.sum(found.var(axis=0, ddof=1)))


# What the policies earn.


def policy_row(where: str, horizon: int = 200, episodes: int = 1024) -> Row:
    """What the policy earns, and how much the two noises change: actions, and returns."""
    params = point(where)

    def one(key: Array) -> dict[str, Array]:
        noise_key, key = jax.random.split(key)
        member = params + SIGMA * jax.random.normal(noise_key, params.shape)
        episode = rollout(ENVIRONMENT, partial(plain_action, params), horizon, key)
        moved = jax.vmap(partial(action_of, member))(episode.observations) - episode.actions
        return {
            "return": jnp.sum(episode.rewards),
            "return_with_noise_of_actions": return_of(params, key, horizon=horizon, noisy=True),
            "return_with_noise_of_parameters": return_of(member, key, horizon=horizon),
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


# References.


class Reference(NamedTuple):
    """The gradient ∇J of an objective, as the mean of K estimates says it."""

    gradient: np.ndarray  # [D]
    squared_norm: float  # of ∇J, without what the noise of the mean adds
    cosine_with_truth: float  # of `gradient` with ∇J


def reference_of(found: np.ndarray) -> Reference:
    """From K independent estimates [K, D], unbiased and each of the covariance C: their mean g has

        E‖g‖² = ‖∇J‖² + tr C / K

    and what it has besides ∇J is nearly orthogonal to it where D is large, so that its cosine with
    ∇J is ‖∇J‖ / ‖g‖."""
    mean = found.mean(axis=0)
    squared_norm = float(mean @ mean) - total_variance(found) / len(found)
    return Reference(mean, squared_norm, float(np.sqrt(max(squared_norm, 0) / (mean @ mean))))


@functools.cache
def reference(objective: str, where: str, horizon: int) -> Reference:
    found = estimates(OF_REFERENCE[objective], where, horizon, REFERENCE, seed=1)
    return reference_of(found)


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
        end = partial(return_of, key=key, horizon=horizon, noisy=noisy)
        return (end(middle + step) - end(middle - step)) / 0.002

    keys = jax.random.split(jax.random.key(4), (episodes // EPISODES, EPISODES))
    return np.asarray(over_devices(jax.vmap(one))(keys), np.float64).ravel()


def reference_row(objective: str, where: str, horizon: int) -> Row:
    started = time.monotonic()
    gradient, squared_norm, cosine_with_truth = reference(objective, where, horizon)
    norm = float(np.linalg.norm(gradient))
    ratios = slopes(objective, where, horizon, gradient / norm) / norm
    slope, half = float(ratios.mean()), half_interval(ratios)
    return {
        "objective": objective,
        "policy": where,
        "horizon": horizon,
        "estimator": OF_REFERENCE[objective],
        "episodes": REFERENCE * EPISODES,
        "norm": norm,
        "norm_without_noise": max(squared_norm, 0) ** 0.5,
        "cosine_with_truth": cosine_with_truth,
        "slope_over_norm": slope,
        "slope_over_norm_ci95": half,
        "within": abs(slope - 1) <= half,
        "seconds": time.monotonic() - started,
    }


def reference_rows() -> Rows:
    for where in POINTS:
        for objective in OF_REFERENCE:
            for horizon in HORIZONS:
                name = f"{where}: {objective}, {horizon} steps"
                yield name, partial(reference_row, objective, where, horizon)


# Estimates beside them.


def gradient_row(name: str, where: str, horizon: int) -> Row:
    truth = reference(ESTIMATORS[name].objective, where, horizon)
    started = time.monotonic()
    found = estimates(name, where, horizon, ESTIMATES, seed=2)
    found = found[np.isfinite(found).all(axis=1)]  # a derivative may overflow
    cosines, noise = cosine(found, truth.gradient), total_variance(found)
    return {
        "estimator": name,
        "policy": where,
        "horizon": horizon,
        "cosine": float(cosines.mean()),
        "ci95": half_interval(cosines),
        "cosine_std": float(cosines.std(ddof=1)),
        "noise": noise**0.5,
        "signal_to_noise": truth.squared_norm / noise,
        "cosine_of_mean": float(cosine(found.mean(axis=0), truth.gradient)),
        "estimates": len(found),
        "not_finite": ESTIMATES - len(found),
        "seconds": time.monotonic() - started,
    }


def gradient_rows() -> Rows:
    for where in POINTS:
        for horizon in HORIZONS:
            for name in ESTIMATORS:
                row = partial(gradient_row, name, where, horizon)
                yield f"{where}: {name}, {horizon} steps", row


# The shape of their noise.


def participation_ratio(samples: np.ndarray) -> float:
    """(tr C)² / tr C² of a noise of covariance C: D where it is isotropic and 1 where it is a line.
    From independent estimates [K, D]: y_i, differences of two of them over the root of 2, have no
    mean and the covariance C, and E[(y_i · y_j)²] = tr C²."""
    y = (samples[0::2] - samples[1::2]) / np.sqrt(2)
    squares = (y @ y.T) ** 2
    count = len(y)
    of_squares = (squares.sum() - np.trace(squares)) / (count * (count - 1))
    return float(np.mean(np.sum(y**2, axis=1)) ** 2 / of_squares)


def share_along(samples: np.ndarray, direction: np.ndarray) -> float:
    """Of the variance of samples [K, D], summed over all directions, what lies in this one [D]."""
    along = samples @ direction / np.linalg.norm(direction)
    return float(along.var(ddof=1)) / total_variance(samples)


def noise_row(name: str, where: str, horizon: int) -> Row:
    found = estimates(name, where, horizon, ESTIMATES, seed=2)
    truth = reference(ESTIMATORS[name].objective, where, horizon)
    return {
        "estimator": name,
        "policy": where,
        "horizon": horizon,
        "participation_ratio": participation_ratio(found),
        "share_along_reference": share_along(found, truth.gradient),
        "parameters": found.shape[1],
    }


def noise_rows() -> Rows:
    for where in POINTS:
        for name in OF_REFERENCE.values():
            row = partial(noise_row, name, where, HORIZONS[0])
            yield f"{where}: shape of the noise of {name}", row
