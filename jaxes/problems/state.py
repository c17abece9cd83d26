"""What a policy search remembers from one generation to the next, and its traced numbers."""

from typing import Any, NamedTuple

from jax import Array

from jaxes import hparams as numbers
from jaxes.problems.observations import ObservationStatistics
from jaxes.problems.tasks import Task


class HParams(NamedTuple):
    alive_penalty: Array | float  # a step
    observation_clip: Array | float  # > 0, in standard deviations
    discount: Array | float  # γ in (0, 1]
    episode_cap: Array | float | None = None  # at least 1, in mean lengths; None for no cap
    randomize: Any = None  # ranges by name, of a search in one randomized environment
    tasks: Any = None  # of a search over several, by task: {"randomize": ranges by name}
    weights: Any = None  # at least 0, by task


class State(NamedTuple):
    observations: ObservationStatistics | None  # None where they are not normalized
    hparams: HParams
    mean_length: Array | None = None  # [], of the last generation's episodes, where they are capped
    generation: Array | None = None  # int32 [], where a number follows a ramp


def now(state: State) -> State:
    """The state with its numbers as they are in this generation."""
    if state.generation is None:
        return state
    return state._replace(hparams=numbers.now(state.hparams, state.generation))


def ranges_of(hparams: HParams, task: Task) -> Any:
    """The ranges that a task's systems are drawn in."""
    if hparams.tasks is None:
        return hparams.randomize
    return hparams.tasks.get(task.name, {}).get("randomize")
