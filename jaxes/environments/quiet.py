"""Kept from the terminal and the folder: what physics engines say of themselves."""

import contextlib
import io
import warnings
from collections.abc import Iterator

import jax

from jaxes.hosts import world


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Brax and mujoco print and warn on import and on creation, and mujoco writes a log file."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
        _devices_of_this_process(),
    ):
        warnings.filterwarnings("ignore", message="Brax System, piplines")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import mujoco

        mujoco.set_mju_user_warning(_ignore_mujoco_warning)  # or MUJOCO_LOG.TXT appears in the cwd
        yield


@contextlib.contextmanager
def _devices_of_this_process() -> Iterator[None]:
    """MuJoCo's MJX puts a model on `jax.devices()[0]`, which belongs to the first process."""
    of_all = jax.devices
    if world.joined():
        jax.devices = lambda backend=None: jax.local_devices(backend=backend)
    try:
        yield
    finally:
        jax.devices = of_all


def _ignore_mujoco_warning(message: str) -> None:
    del message
