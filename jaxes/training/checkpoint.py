"""Checkpoints of a train state, written in the background and verified. The only module that
imports orbax."""

import contextlib
import errno
import itertools
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import Array

from jaxes.checks import brief, is_key
from jaxes.core import TrainState
from jaxes.parallel import place_as
from jaxes.terminal import format_bytes
from jaxes.training import manifest

DATA = "default"  # orbax's part of a checkpoint
SLACK = 2**17  # bytes of a checkpoint beside its arrays
Leaves = dict[str, np.ndarray]
Rule = Callable[[list[int]], Iterable[int]]  # from what is saved to what is kept


class Checkpoints:
    """A directory of checkpoints, one a saved generation.

    A state is stored as a flat mapping from the names of its leaves (`.strategy.mean`) to arrays,
    so that a checkpoint can be read without jaxes. It is written under another name, read back,
    compared, given its manifest and only then put in its place: what has a generation as its name
    is whole. Nothing is deleted before a newer one stands there so.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs what it raises, too
        self.directory = directory
        # One process writes and reads, whatever others there are.
        alone = ocp.options.MultiprocessingOptions(
            active_processes={0}, barrier_sync_key_prefix="jaxes"
        )
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self._orbax = ocp.Checkpointer(handler, multiprocessing_options=alone)
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._saving: Future | None = None
        if not read_only:
            directory.mkdir(exist_ok=True)
            self._inode = directory.stat().st_ino
            for path in directory.glob("*.tmp"):  # of a save or a deletion that was cut off
                shutil.rmtree(path)

    def generations(self) -> list[int]:
        """Those that were saved, in order."""
        names = [path.name for path in self.directory.glob("*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, generation: int, state: TrainState, keep: Rule = list) -> None:
        """Starts saving and returns; what is saved is the state now. A generation that is there
        already stays as it is.

        Args:
          keep: which of the saved generations stay, once this one is verified.

        Raises:
          OSError: an earlier save failed.
        """
        self.raise_if_failed(wait=True)
        if generation not in self.generations():
            # Host arrays: a copy on every device could be read on as many devices alone.
            leaves = jax.device_get(_by_name(state))
            self._saving = self._writer.submit(self._save, generation, leaves, keep)

    def raise_if_failed(self, wait: bool = False) -> None:
        """Raises the OSError of a save that has failed.

        Args:
          wait: until the one under way is on disk, or has failed.
        """
        if self._saving is not None and (wait or self._saving.done()):
            saving, self._saving = self._saving, None
            saving.result()

    def _save(self, generation: int, leaves: Leaves, keep: Rule) -> None:
        """In the background."""
        path = self._path(generation)
        temporary = path.with_suffix(".tmp")
        try:
            temporary.mkdir()  # not its parents, which may have been taken away
            _check_room(temporary, leaves)
            self._orbax.save((temporary / DATA).resolve(), args=ocp.args.StandardSave(leaves))
            manifest.write(temporary, generation, leaves)
            self._leaves(temporary, generation)
            temporary.rename(path)
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)
            self._remove_if_new()
            raise OSError(
                f"the checkpoint of generation {generation} could not be saved in "
                f"{self.directory}: {brief(error)[:300]}"
            ) from error
        saved = self.generations()
        for old in set(saved) - {generation, *keep(saved)}:
            gone = self._path(old).rename(self._path(old).with_suffix(".tmp"))
            shutil.rmtree(gone)

    def _remove_if_new(self) -> None:
        """Of a run that was taken away, removes what orbax has made of its directory anew."""
        with contextlib.suppress(OSError):
            if self.directory.stat().st_ino != self._inode:
                self.directory.rmdir()
                self.directory.parent.rmdir()

    def leaves(self, generation: int) -> Leaves:
        """All that was saved, by name, on the host.

        Raises:
          ValueError: the checkpoint is damaged.
        """
        path = self._path(generation)
        try:
            return self._leaves(path, generation)
        except MemoryError:
            raise
        except OSError as error:
            if error.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
                raise  # of the disk or the process, not of the file
            raise ValueError(f"checkpoint {path} is damaged: {brief(error)[:200]}") from error
        except Exception as error:  # whatever a damaged file makes orbax raise
            reason = str(error) if type(error) is ValueError else brief(error)
            raise ValueError(f"checkpoint {path} is damaged: {reason[:200]}") from error

    def _leaves(self, path: Path, generation: int) -> Leaves:
        # orbax's own manager marked what it wrote, before there were manifests.
        marked = (path / "_CHECKPOINT_METADATA").exists()
        content = None if marked else manifest.read(path, generation)
        read = self._orbax.restore((path / DATA).resolve(), args=ocp.args.StandardRestore())
        leaves = {name: np.asarray(leaf) for name, leaf in read.items()}
        if content is not None:
            manifest.check_leaves(content, leaves)
        return leaves

    def newest(self) -> tuple[int, Leaves] | None:
        """The newest generation that is whole, and its leaves; None where nothing was saved. Warns
        of those that are damaged.

        Raises:
          ValueError: all are damaged.
        """
        damages: dict[int, str] = {}
        for generation in reversed(self.generations()):
            try:
                leaves = self.leaves(generation)
            except ValueError as error:
                if not self._path(generation).exists():  # the run has deleted it meanwhile
                    return self.newest()
                damages[generation] = str(error)
                continue
            for damage in damages.values():
                warnings.warn(f"{damage}; that of {generation} is taken instead", stacklevel=3)
            return generation, leaves
        if damages:
            reasons = "; ".join(damages.values())
            raise ValueError(
                f"no checkpoint is left to go on from: {reasons}; move {self.directory} away to "
                "begin at the start"
            )
        return None

    def set_aside_after(self, generation: int) -> None:
        """Renames what is newer, and so is damaged, to make room for its repetition."""
        for newer in self.generations():
            if newer > generation:
                self._set_aside(newer)

    def set_aside_if_damaged(self, generation: int) -> None:
        """Renames that of a generation, if there is one and it is damaged."""
        if generation in self.generations():
            try:
                self.leaves(generation)
            except ValueError:
                self._set_aside(generation)

    def _set_aside(self, generation: int) -> None:
        path = self._path(generation)
        names = (path.with_suffix(f".damaged{n or ''}") for n in itertools.count())
        path.rename(next(name for name in names if not name.exists()))

    def _path(self, generation: int) -> Path:
        return self.directory / str(generation)

    def close(self) -> None:
        """Waits until all saves are on disk.

        Raises:
          OSError: one has failed.
        """
        self._writer.shutdown()
        self._orbax.close()
        self.raise_if_failed(wait=True)


def _check_room(directory: Path, leaves: Leaves) -> None:
    """Raises an OSError where a disk is too full: what orbax says of it is long, and has tracebacks
    of threads that it leaves behind."""
    needed, free = sum(leaf.nbytes for leaf in leaves.values()), shutil.disk_usage(directory).free
    if 0 < free < needed + SLACK:  # some file systems say that there is nothing
        text = f"{os.strerror(errno.ENOSPC)}: it takes {format_bytes(needed + SLACK)}"
        raise OSError(errno.ENOSPC, f"{text}, {format_bytes(free)} are free")


def as_state(generation: int, leaves: Leaves, template: TrainState) -> TrainState:
    """What a checkpoint holds, with the structure and placement of `template`.

    Raises:
      ValueError: it has other leaves, shapes or dtypes than the template.
    """
    expected = _by_name(template)
    for name in sorted(expected.keys() ^ leaves.keys()):
        where = "the checkpoint" if name in expected else "this strategy and problem"
        raise ValueError(f"generation {generation}: {where} lacks {name}")
    for name, leaf in expected.items():
        saved = leaves[name]
        if (saved.shape, saved.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"generation {generation}: {name} was saved as {saved.dtype}{list(saved.shape)}, "
                f"this strategy and problem need {leaf.dtype}{list(leaf.shape)}"
                + (" (was JAX_ENABLE_X64 set?)" if saved.dtype != leaf.dtype else "")
            )

    def placed(path: Any, like: Array) -> Array:
        if not like.size:
            return like
        saved = leaves[jax.tree_util.keystr(path)]
        if not is_key(like):
            return place_as(saved, like.sharding)
        data = place_as(saved, jax.random.key_data(like).sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))

    return jax.tree_util.tree_map_with_path(placed, template)


def _by_name(state: TrainState) -> dict[str, Array]:
    """What is stored: keys as their data, and nothing of arrays of no size."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if is_key(leaf) else leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
        if leaf.size
    }
