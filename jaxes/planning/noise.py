"""Noise along a plan: a fixed linear map of the standard normal noise that strategies draw.

A strategy searches z ~ N(μ, Σ) as ever; the planner acts with the plan L z, so that neighboring
actions go together where L is colored. Since L is invertible, a plan of one's own (the last one,
shifted; a policy's actions) is the mean L⁻¹ plan of a search, to the number.
"""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_name, check_number

Noise = Literal["colored", "white"]


MOST_AMPLIFIED = 1e4  # float32 inverts the map to 1e-3 then


def check_noise(noise: str, beta: float, horizon: int) -> None:
    """Raises a ValueError for an unknown kind, or an exponent beyond what float32 can invert."""
    check_name("noise", noise, get_args(Noise))
    check_number("beta", beta, lambda number: number >= 0, "at least 0")
    with np.errstate(over="ignore", invalid="ignore"):
        amplitude = amplitudes(beta, horizon)
    invertible = amplitude.max() <= MOST_AMPLIFIED * amplitude.min()
    allowed = f"smaller with a horizon of {horizon}: float32 cannot invert that map"
    check("beta", beta, noise == "white" or bool(invertible), allowed)


def amplitudes(beta: float, horizon: int) -> np.ndarray:
    """Of the frequencies k/H: f^(-β/2), the lowest two alike, scaled so that each action has the
    variance 1: float64 `[H]`.

    References: Timmer & König, On generating power law noise (1995); Pinneri et al.,
    Sample-efficient cross-entropy method for real-time planning (CoRL 2020), equation 2.
    """
    frequency = np.maximum(np.abs(np.fft.fftfreq(horizon)), 1 / horizon)
    amplitude = frequency ** (-beta / 2)
    return amplitude / np.sqrt(np.mean(amplitude**2))


class Coloring:
    """`L [H, H]` and its inverse: circulant and symmetric, L Lᵀ the covariance of noise whose power
    falls as 1/f^β; the identity where it is white."""

    def __init__(self, noise: Noise, beta: float, horizon: int):
        white = noise == "white" or beta == 0
        amplitude = amplitudes(beta, horizon)
        self.matrix = np.eye(horizon) if white else _circulant(amplitude)
        self.inverse = np.eye(horizon) if white else _circulant(1 / amplitude)
        self._white = white

    def plan(self, z: Array, action_size: int) -> Array:
        """The plan `[H, A]` of a solution z `[H · A]`."""
        return self._map(self.matrix, z.reshape(-1, action_size))

    def solution(self, plan: Array) -> Array:
        """The solution `[H · A]` whose plan `[H, A]` this is."""
        return self._map(self.inverse, plan).reshape(-1)

    def _map(self, matrix: np.ndarray, rows: Array) -> Array:
        return rows if self._white else jnp.asarray(matrix, rows.dtype) @ rows


def _circulant(amplitude: np.ndarray) -> np.ndarray:
    columns = np.fft.fft(np.eye(amplitude.size), axis=0)
    return np.fft.ifft(amplitude[:, None] * columns, axis=0).real
