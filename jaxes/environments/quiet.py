"""Kept from the terminal and the folder: what physics engines say of themselves."""

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Brax and mujoco print and warn on import and on creation, and mujoco writes a log file."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Brax System, piplines")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import mujoco

        mujoco.set_mju_user_warning(_ignore_mujoco_warning)  # or MUJOCO_LOG.TXT appears in the cwd
        yield


def _ignore_mujoco_warning(message: str) -> None:
    del message
