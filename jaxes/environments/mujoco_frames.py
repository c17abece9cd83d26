"""Frames of MuJoCo's models, drawn by a process of its own, which runs this file.

What draws without a screen is chosen before mujoco is imported, and what fails once fails for good
in a process: so one is tried after the other in processes of their own. These keep to themselves
whatever drivers print, and whatever they leave behind at exit.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODEL, STATES, FRAMES = "model.mjb", "states.npz", "frames"


def drawn(model: Any, states: Mapping[str, Any], width: int, height: int) -> np.ndarray:
    """uint8 `[T, H, W, 3]`, a frame of each state.

    Args:
      model: a `mujoco.MjModel`.
      states: `qpos [T, nq]`, and what else of `mujoco.MjData` is to be set.
      width: pixels.
      height: pixels.

    Raises:
      ValueError: nothing is installed that draws without a screen.
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
    states = dict(np.load(folder / STATES))
    data, camera = mujoco.MjData(model), _camera(mujoco, model)
    with mujoco.Renderer(model, height, width) as renderer, (folder / FRAMES).open("wb") as frames:
        for step in range(len(states["qpos"])):
            for name, values in states.items():
                getattr(data, name)[:] = values[step]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            renderer.render().tofile(frames)


def _camera(mujoco: Any, model: Any) -> Any:
    """The model's first camera that follows, else its first one, else one in front of it."""
    follows = (mujoco.mjtCamLight.mjCAMLIGHT_TRACK, mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)
    following = [number for number in range(model.ncam) if model.cam_mode[number] in follows]
    if model.ncam:
        return [*following, 0][0]
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    camera.elevation = -15
    return camera


if __name__ == "__main__":
    _draw(Path(sys.argv[1]), *map(int, sys.argv[2:]))
