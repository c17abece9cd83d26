"""A start from what one has: parameters of one's own, or those of a run."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxes.checks import check, kinds, show
from jaxes.core import HParams, Problem, State
from jaxes.files import Arrays, write_arrays
from jaxes.hosts import agree, world
from jaxes.problems.observations import ObservationStatistics
from jaxes.training.identity import read_identity

FILE = "start.npz"  # in a run's directory: its source may change, or go away


class Start(NamedTuple):
    """Where a search begins.

    Attributes:
      mean: `[D]`.
      observations: statistics to normalize with; None where there are none.
    """

    mean: np.ndarray
    observations: ObservationStatistics | None = None

    def begun(self, problem: Problem) -> Problem:
        """The problem whose searches begin here."""

        def init(key: Array, hparams: HParams = problem.hparams) -> State:
            state = problem.init(key, hparams)
            if self.observations is None:
                return state
            return state._replace(observations=jax.tree.map(jnp.asarray, self.observations))

        return problem._replace(init=init, initial_mean=lambda key: jnp.asarray(self.mean))

    def save(self, directory: Path) -> None:
        statistics = {} if self.observations is None else self.observations._asdict()
        named = {f"observations.{field}": value for field, value in statistics.items()}
        write_arrays(directory / FILE, {"mean": self.mean} | named)


def fitted(start: Start, what: str, problem: Problem) -> Start:
    """The start as this problem has it; `what` is what messages call it.

    Raises:
      ValueError: it has other parameters than the problem, or a run's normalize otherwise.
    """
    key = jax.random.key(0)
    expected = jax.eval_shape(problem.initial_mean, key)
    size, finite = start.mean.size, bool(np.isfinite(start.mean).all())
    check(what, size, size == expected.size, f"of the problem's {expected.size} parameters")
    check(what, start.mean, finite, "finite")
    with np.errstate(over="ignore"):
        mean_here = start.mean.astype(expected.dtype)
    held = bool(np.isfinite(mean_here).all())
    check(what, start.mean, held, f"numbers that {expected.dtype} can hold")
    if what != "mean":
        statistics = getattr(jax.eval_shape(problem.init, key), "observations", None)
        same = kinds(statistics) == kinds(start.observations)
        allowed = f"one whose observations are normalized as here, {show(statistics)}"
        check(what, show(start.observations), same, allowed)
    return start._replace(mean=mean_here)


def start_and_name(
    mean: Any, problems: Sequence[Problem], resumed: Path | None
) -> tuple[Start | None, dict[str, Any]]:
    """The start of a run or a sweep, and what its identity says of it. Of many processes only the
    first one reads files.

    Args:
      mean: the argument of `jaxes.train`; None for the problem's own.
      problems: all that begin there.
      resumed: the directory of a run that goes on, which keeps its start; None for a new one.

    Raises:
      ValueError: it has other parameters than a problem, or is no run that has a checkpoint.
    """
    found: list[Start | None] = []

    def look() -> dict[str, Any]:
        start, about = _start_and_name(mean, problems, resumed)
        found.append(start)
        leaves = [] if start is None else jax.tree.leaves(start)
        return {"about": about, "leaves": [[str(leaf.dtype), leaf.shape] for leaf in leaves]}

    said = agree.of_first(look)
    if not said["leaves"]:
        return None, said["about"]
    start = found[0] if found else None
    if world.joined():
        if start is None:
            zeros: list[Any] = [np.zeros(shape, dtype) for dtype, shape in said["leaves"]]
            observed = ObservationStatistics(*zeros[1:]) if zeros[1:] else None
            start = Start(zeros[0], observed)
        start = jax.device_get(agree.from_first(start))
    return start, said["about"]


def _start_and_name(
    mean: Any, problems: Sequence[Problem], resumed: Path | None
) -> tuple[Start | None, dict[str, Any]]:
    own = None if resumed is None else resumed / FILE
    # Without a run.json the run was cut before it began, and its config says where it begins.
    began = own is not None and own.exists() and (own.parent / "run.json").exists()
    kept = _of_file(own) if own is not None and began else None
    path = path_of(mean)
    if kept is not None and resumed is not None:
        if mean is None or path == path_of(own):
            return kept, {"mean": read_identity(resumed)["mean"]}
        if path is not None:
            return kept, {"mean": path}  # another run may be there by now
    if mean is None:
        return None, {}
    if path is None:
        starts = [fitted(Start(_ravel(mean, problem)), "mean", problem) for problem in problems]
    else:
        given = _of_file(Path(mean)) if Path(mean).is_file() else of_run(Path(mean))
        starts = [fitted(given, f"mean: the run {mean}", problem) for problem in problems]
    return starts[0], {"mean": path or hashlib.sha256(starts[0].mean.tobytes()).hexdigest()[:16]}


def path_of(mean: Any) -> str | None:
    """The path that it is, from wherever it is read."""
    return str(Path(mean).absolute()) if isinstance(mean, str | os.PathLike) else None


def said_of(mean: Any) -> str | None:
    """What a config says of it: a path, or the file beside the config that has these numbers."""
    return None if mean is None else path_of(mean) or FILE


def _ravel(mean: Any, problem: Problem) -> np.ndarray:
    """A vector, or a tree like the policy's parameters, as a vector."""
    expected = jax.eval_shape(problem.initial_mean, jax.random.key(0))
    leaves = jax.tree.leaves(mean)
    numbers = all(np.asarray(leaf).dtype.kind in "fiu" for leaf in leaves) and len(leaves) > 0
    check("mean", show(mean), numbers, "numbers: a vector, a policy's parameters, or a run's path")
    if jax.tree_util.all_leaves([mean]) or isinstance(mean, list | tuple):
        vector = np.asarray(mean)
        check("mean", list(vector.shape), vector.ndim == 1, "a vector [D], or parameters")
        return vector
    if problem.policy is None:
        raise ValueError(f"mean must be a vector [{expected.size}], got {show(mean)}")
    state = problem.init(jax.random.key(0))
    parameters = problem.policy(jnp.zeros(expected.shape, expected.dtype), state).init(
        jax.random.key(0)
    )
    same = jax.tree.map(np.shape, mean) == jax.tree.map(np.shape, parameters)
    check("mean", show(mean), same, f"like the policy's parameters, {show(parameters)}")
    return np.asarray(ravel_pytree(mean)[0])


def _of_file(path: Path) -> Start:
    """What `Start.save` wrote into that file."""
    arrays = Arrays("mean", path)
    return Start(arrays["mean"], _statistics(arrays, "observations."))


def of_run(directory: Path, field: str = "mean") -> Start:
    """What a run's last checkpoint ends with; messages call it `field`.

    Raises:
      ValueError: there is none.
    """
    from jaxes.training.checkpoint import Checkpoints

    if not (directory / "checkpoints").is_dir():
        raise ValueError(f"{field}: {directory} is no run that has a checkpoint")
    newest = Checkpoints(directory / "checkpoints", read_only=True).newest()
    if newest is None:
        raise ValueError(f"{field}: {directory} is no run that has a checkpoint")
    _, leaves = newest
    if ".strategy.mean" not in leaves:
        raise ValueError(f"{field}: the checkpoint of {directory} has no .strategy.mean")
    return Start(leaves[".strategy.mean"], _statistics(leaves, ".problem.observations."))


def _statistics(arrays: Mapping[str, Any], prefix: str) -> ObservationStatistics | None:
    """Those of the arrays whose names begin so, if there are any."""
    found = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return ObservationStatistics(**found) if found else None
