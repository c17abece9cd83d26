"""Checkpoints of a train state, written in the background. The only module that imports orbax."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array

from jaxes.checks import brief
from jaxes.core import TrainState


class Checkpoints:
    """A directory of checkpoints, one a saved generation; none is ever deleted.

    A state is stored as a flat mapping from the names of its leaves (`.strategy.mean`) to arrays,
    so that a checkpoint can be read without jaxes. A save that was cut off leaves no checkpoint.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs what it raises, too
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory.resolve(),
            item_handlers=ocp.StandardCheckpointHandler(),  # or there is no metadata to check
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None,
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            ),
        )

    def latest(self) -> int | None:
        """The greatest generation that was saved."""
        return self._manager.latest_step()

    def generations(self) -> list[int]:
        """Those that were saved, in order."""
        return sorted(self._manager.all_steps())

    def save(self, generation: int, state: TrainState) -> None:
        """Starts saving and returns; the copy is taken before it does. A generation that is there
        already stays as it is."""
        if generation in self._manager.all_steps():
            return
        # Host arrays: a copy on every device could be read on as many devices alone.
        arrays = jax.device_get(_by_name(state))
        if not self._manager.save(generation, args=ocp.args.StandardSave(arrays)):
            raise RuntimeError(f"orbax refused to save generation {generation}")

    def restore(self, generation: int, template: TrainState) -> TrainState:
        """The saved state, with the structure and placement of `template`.

        Raises:
          ValueError: the checkpoint has other leaves, shapes or dtypes than the template.
        """
        expected = _by_name(template)
        saved = self._read(generation, self._manager.item_metadata)
        for name in sorted(expected.keys() ^ saved.keys()):
            where = "the checkpoint" if name in expected else "this strategy and problem"
            raise ValueError(f"generation {generation}: {where} lacks {name}")
        for name, leaf in expected.items():
            if (saved[name].shape, saved[name].dtype) != (leaf.shape, leaf.dtype):
                raise ValueError(
                    f"generation {generation}: {name} was saved as {saved[name].dtype}"
                    f"{list(saved[name].shape)}, this strategy and problem need {leaf.dtype}"
                    f"{list(leaf.shape)}"
                    + (" (was JAX_ENABLE_X64 set?)" if saved[name].dtype != leaf.dtype else "")
                )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, expected)
        restore = partial(self._manager.restore, args=ocp.args.StandardRestore(abstract))
        restored = self._read(generation, restore)

        def of_template(path: Any, like: Array) -> Array:
            if not like.size:
                return like
            found = restored[jax.tree_util.keystr(path)]
            return (
                jax.random.wrap_key_data(found, impl=jax.random.key_impl(like))
                if _is_key(like)
                else found
            )

        return jax.tree_util.tree_map_with_path(of_template, template)

    def leaves(self, generation: int) -> dict[str, np.ndarray]:
        """All that was saved, by name, on the host.

        Raises:
          ValueError: the checkpoint is damaged.
        """
        restore = partial(self._manager.restore, args=ocp.args.StandardRestore())
        saved = self._read(generation, restore)
        return {name: np.asarray(leaf) for name, leaf in saved.items()}

    def _read(self, generation: int, read: Callable[[int], Any]) -> Any:
        """What `read` says of a generation; whatever it raises means a damaged checkpoint."""
        try:
            if (found := read(generation)) is not None:
                return found
            reason = "it is not complete"
        except Exception as error:
            reason = brief(error)[:200]
        raise ValueError(
            f"checkpoint {self._directory / str(generation)} is damaged; move it away to go on "
            f"from an earlier one ({reason})"
        )

    def close(self) -> None:
        """Waits until all saves are on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def _by_name(state: TrainState) -> dict[str, Array]:
    """What is stored: keys as their data, and nothing of arrays of no size."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if leaf.size
    }


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
