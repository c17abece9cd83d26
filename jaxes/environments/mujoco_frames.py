"""Frames of MuJoCo's models, drawn by a process of its own, which runs this file.

What draws without a screen is chosen before mujoco is imported, and what fails once fails for good
in a process: so one is tried after the other in processes of their own. These keep to themselves
whatever drivers print, and whatever they leave behind at exit.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODEL, STATES, FRAMES = "model.mjb", "states.npz", "frames"
LIGHT = 0.3, 0.5  # of the lamp at the camera: ambient and diffuse; mujoco's 0.1 and 0.4 are dark
PAPER = (250, 250, 248)


def drawn(model: Any, states: Mapping[str, Any], width: int, height: int) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, a frame of each state.

    Args:
      model: a `mujoco.MjModel`.
      states: `qpos [T, nq]`, and what else of `mujoco.MjData` is to be set.
      width: pixels.
      height: pixels.

    Raises:
      ValueError: nothing is installed that draws without a screen, or the states do not fit.
    """
    import mujoco

    with tempfile.TemporaryDirectory() as folder:
        mujoco.mj_saveModel(model, os.path.join(folder, MODEL), None)
        np.savez(os.path.join(folder, STATES), **states)
        failures = []
        for backend in _backends():
            command = [sys.executable, "-P", __file__, folder, str(width), str(height)]
            environment = os.environ | {"MUJOCO_GL": backend}
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            if done.returncode == 0:
                frames = np.fromfile(os.path.join(folder, FRAMES), np.uint8)
                return frames.reshape(-1, height, width, 3)
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it was killed"]
            if os.path.exists(os.path.join(folder, FRAMES)):  # it could have drawn
                raise ValueError(f"mujoco fails to draw: {said[-1]}")
            failures.append(f"{backend}: {said[-1][:120]}")
    raise ValueError(
        "mujoco draws nothing without a screen: install Debian's libegl1 or libosmesa6 "
        f"({'; '.join(failures)})"
    )


def _backends() -> list[str]:
    """What may draw, in the order in which it is tried."""
    if chosen := os.environ.get("MUJOCO_GL"):
        return [chosen]
    return ["egl", "osmesa"] if sys.platform == "linux" else [""]  # "" is mujoco's own choice


def _draw(folder: Path, width: int, height: int) -> None:
    import mujoco

    model = mujoco.MjModel.from_binary_path(str(folder / MODEL))
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = LIGHT
    bare = int(mujoco.mjtTexture.mjTEXTURE_SKYBOX) not in model.tex_type
    states = dict(np.load(folder / STATES))
    with mujoco.Renderer(model, height, width) as renderer, (folder / FRAMES).open("wb") as frames:
        camera = _camera(mujoco, model, _poses(mujoco, model, states))
        for data in _poses(mujoco, model, states):
            renderer.update_scene(data, camera)
            frame = renderer.render()
            if bare:  # what nothing covers is black
                frame[~frame.any(axis=-1)] = PAPER
            frame.tofile(frames)


def _poses(mujoco: Any, model: Any, states: Mapping[str, np.ndarray]) -> Iterator[Any]:
    """`mujoco.MjData` in one state after the other."""
    data = mujoco.MjData(model)
    for step in range(len(states["qpos"])):
        for name, values in states.items():
            getattr(data, name)[:] = values[step]
        mujoco.mj_forward(model, data)
        yield data


def _camera(mujoco: Any, model: Any, poses: Iterator[Any]) -> Any:
    """The model's first camera that follows, else its first one, else one that sees everything but
    the ground all the time: from the side, or from above where that is flat."""
    modes = mujoco.mjtCamLight
    follows = np.isin(model.cam_mode, [int(modes.mjCAMLIGHT_TRACK), int(modes.mjCAMLIGHT_TRACKCOM)])
    if model.ncam:
        return int(np.argmax(follows))
    lows, highs = zip(*(_bounds(mujoco, model, data) for data in poses), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    size = (high - low) / 2
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (low + high) / 2
    camera.distance = np.linalg.norm(size) / np.sin(np.radians(model.vis.global_.fovy / 2))
    camera.azimuth, camera.elevation = 90, -75 if size[2] < size.max() / 5 else -15
    return camera


def _bounds(mujoco: Any, model: Any, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """The corners [3] of the box around everything but planes and height fields."""
    solid = model.geom_type > int(mujoco.mjtGeom.mjGEOM_HFIELD)
    rotation, box = data.geom_xmat[solid].reshape(-1, 3, 3), model.geom_aabb[solid]
    middle = data.geom_xpos[solid] + np.einsum("gij,gj->gi", rotation, box[:, :3])
    reach = np.einsum("gij,gj->gi", np.abs(rotation), box[:, 3:])
    return (middle - reach).min(axis=0), (middle + reach).max(axis=0)


if __name__ == "__main__":
    _draw(Path(sys.argv[1]), *map(int, sys.argv[2:]))
