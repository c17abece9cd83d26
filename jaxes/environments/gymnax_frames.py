"""Frames of gymnax's environments: as gymnax draws them, or sketched where it would need pygame."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxes.environments.cartpole import render as render_cartpole
from jaxes.environments.pendulum import render as render_pendulum
from jaxes.environments.sketch import ACCENT, FAINT, INK, Sketch, sketched

Render = Callable[[Any, int, int], np.ndarray]
DPI = 64  # a power of two, so that sizes in inches are sizes in pixels
VISUALIZED = (
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"),
    *("SpaceInvaders-MinAtar", "Catch-bsuite", "FourRooms-misc", "MetaMaze-misc"),
    *("PointRobot-misc", "Pong-misc"),
)


def render_of(env: Any, params: Any) -> Render | None:
    """What draws the states `(env_state, key)` of an environment; None where nothing does."""
    draw = partial(_visualized, env, params) if env.name in VISUALIZED else SKETCHED.get(env.name)
    return draw and (lambda states, width, height: draw(states[0], width, height))


def _visualized(env: Any, params: Any, states: Any, width: int, height: int) -> np.ndarray:
    """By gymnax's own visualizer, which uses matplotlib."""
    from gymnax.visualize import Visualizer
    from matplotlib import pyplot

    count = len(jax.tree.leaves(states)[0])
    steps = [jax.tree.map(lambda leaf, step=step: leaf[step], states) for step in range(count)]
    visualizer, frames = Visualizer(env, params, steps), []
    figure = visualizer.fig
    figure.set_dpi(DPI)
    figure.set_size_inches(width / DPI, height / DPI)
    visualizer.init()
    for step in range(count):
        visualizer.update(step)
        figure.canvas.draw()
        frames.append(np.array(figure.canvas.buffer_rgba())[..., :3])
    pyplot.close(figure)
    return np.stack(frames)


def _acrobot(sketch: Sketch, state: Any) -> None:
    """Two rods of 1 m; the goal is to lift the end above the line."""
    first, second = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
    joint = math.sin(first), -math.cos(first)
    end = joint[0] + math.sin(second), joint[1] - math.cos(second)
    sketch.rod((-3.0, 1.0), (3.0, 1.0), 0.03, FAINT)
    sketch.rod((0.0, 0.0), joint, 0.2, INK)
    sketch.rod(joint, end, 0.2, ACCENT)
    sketch.disc((0.0, 0.0), 0.06, FAINT)
    sketch.disc(joint, 0.06, FAINT)


def _mountain_car(sketch: Sketch, state: Any) -> None:
    """The hill is `sin(3x)`, as in Gymnasium."""

    def hill(x: float) -> tuple[float, float]:
        return x, 0.45 * math.sin(3 * x)

    ground = [hill(x) for x in np.linspace(-1.2, 0.6, 60)]
    for start, end in itertools.pairwise(ground):
        sketch.rod(start, end, 0.015, FAINT)
    x, y = hill(0.5)
    sketch.rod((x, y), (x, y + 0.15), 0.01, INK)
    sketch.box((x - 0.04, y + 0.13), (0.08, 0.05), INK)
    x, y = hill(float(state.position))
    sketch.disc((x, y + 0.045), 0.045, ACCENT)


_on_hill = partial(sketched, _mountain_car, center=(-0.3, 0.05), reach=(1.0, 0.65))
SKETCHED: dict[str, Render] = {
    "CartPole-v1": render_cartpole,
    "Pendulum-v1": render_pendulum,
    "Acrobot-v1": partial(sketched, _acrobot, center=(0.0, 0.0), reach=(2.3, 2.3)),
    "MountainCar-v0": _on_hill,
    "MountainCarContinuous-v0": _on_hill,
}
