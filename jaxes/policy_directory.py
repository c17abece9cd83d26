"""The policy directory: a policy that has left its run, for those who have nothing else of it.

policy.json              what it is, and the sha256 of what lies beside it; written last
params.safetensors       arrays by name: the parameters (`params/Dense_0/kernel`), what normalizes
                         observations (`observations/mean`, `/std`, `/clip`), and the memory at an
                         episode's start (`memory/0`), where it is the same for all
policy.stablehlo         a step of b episodes by `jax.export`, parameters and normalization inside:
                         leaves of the memory [b, ...], observations [b, O] float32
                         -> actions [b, A], or int32 [b], and leaves of the memory
initial_state.stablehlo  keys' data uint32 [b, 2] -> leaves of the memory, where it is drawn

A built-in network is rebuilt from its spec and its arrays; any other one runs as the computation
that was exported. Nothing in the directory is run as Python.
"""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import brief, check, failing, is_number, show
from jaxes.environments.base import flat, greatest
from jaxes.files import digest_of
from jaxes.policies import POLICIES, Params, PolicyState, initial_state, make_policy
from jaxes.problems.observations import Normalizer

FORMAT = 1
ABOUT, ARRAYS = "policy.json", "params.safetensors"
STEP, START = "policy.stablehlo", "initial_state.stablehlo"

Apply = Callable[[PolicyState, Array], tuple[Array, PolicyState]]


class LoadedPolicy:
    """A policy with its parameters, from raw observations to what an environment's step takes.

    `apply` is pure: jit, vmap and scan it. `reset` and `act` are for a simple loop, and keep the
    memory between its steps.

    Attributes:
      about: what `policy.json` says of it.
      initial_state: the memory at the start of an episode: a pytree, or `(key) -> pytree`.
      observation_size: O.
      action_size: A, the numbers of a continuous action; None where actions are discrete.
      num_actions: how many discrete actions there are; None where they are continuous.

    Example:
      >>> policy = jaxes.load_policy("policies/hopper")
      >>> policy.reset()
      >>> action = policy.act(observation)
    """

    def __init__(self, about: Mapping[str, Any], initial_state: Any, apply: Apply):
        self.about = about
        self.initial_state = initial_state
        self.observation_size: int = about["observation_size"]
        self.action_size: int | None = about["action_size"]
        self.num_actions: int | None = about["num_actions"]
        self._apply = apply
        self._step = jax.jit(apply)
        self.reset()

    @property
    def num_outputs(self) -> int:
        """How many outputs its network has."""
        return self.action_size or self.num_actions or 0

    def apply(self, policy_state: PolicyState, observation: Any) -> tuple[Array, PolicyState]:
        """One step of one episode.

        Args:
          policy_state: the memory.
          observation: `[O]`, or a pytree of as many numbers.

        Returns:
          The action, `[A]` or int32 `[]`, and the memory.

        Raises:
          ValueError: an observation of another size.
        """
        return self._apply(policy_state, self._vector(observation))

    def reset(self, key: Array | None = None) -> None:
        """Begins an episode; the key is for a memory that is drawn, by default always the same."""
        self._memory = initial_state(self, jax.random.key(0) if key is None else key)

    def act(self, observation: Any) -> np.ndarray | int:
        """The action `[A]`, or the number of a discrete one, for the next observation."""
        action, self._memory = self._step(self._memory, self._vector(observation))
        return np.array(action) if self.num_actions is None else int(action)

    def _vector(self, observation: Any) -> Array:
        leaves, size = jax.tree.leaves(observation), self.observation_size
        ok = all(map(is_number, leaves)) and sum(map(np.size, leaves)) == size
        check("observation", show(observation), ok, f"{size} numbers, of one step of one episode")
        return flat(observation)


def load_policy(path: str | os.PathLike) -> LoadedPolicy:
    """Reads what `jaxes.export` wrote. Neither the run nor its environment is needed.

    Raises:
      ValueError: it is no policy directory, of a newer format, or a file is missing or damaged.

    Example:
      >>> policy = jaxes.load_policy("policies/hopper")
      >>> action, memory = policy.apply(policy.initial_state, observation)
    """
    from safetensors.numpy import load

    check("path", path, isinstance(path, str | os.PathLike), "a path")
    folder = Path(path)
    about = _read_about(folder)
    files = {name: _read(folder / name, digest) for name, digest in about["files"].items()}
    with failing(f"policy: {folder} cannot be loaded"):
        make = _exported if about["policy"] is None else _rebuilt
        return LoadedPolicy(about, *make(about, load(files[ARRAYS]), files))


def is_policy(path: str | os.PathLike) -> bool:
    """Whether it is a policy directory."""
    return (Path(path) / ABOUT).is_file()


def named(params: Params) -> dict[str, Any]:
    """A policy's parameters by name (`params/Dense_0/kernel`), in the order of the leaves."""
    whole = isinstance(params, Mapping) and set(params) == {"params"}  # as modules of linen have it
    leaves = jax.tree_util.tree_leaves_with_path(params["params"] if whole else params)
    keystr = partial(jax.tree_util.keystr, simple=True, separator="/")
    return {f"params/{keystr(path)}".rstrip("/"): leaf for path, leaf in leaves}


def _read_about(folder: Path) -> dict[str, Any]:
    file = folder / ABOUT
    if not folder.exists():
        raise ValueError(f"policy: there is no {folder}")
    if not file.exists():
        raise ValueError(
            f"policy: {folder} is no policy directory (no {ABOUT} in it); `jaxes export` makes one "
            "of a run"
        )
    with failing(f"policy: {file} is damaged"):
        about = json.loads(file.read_bytes())
        known, digest = about["format"], about.pop("sha256")
    if known != FORMAT:
        raise ValueError(
            f"policy: {file} has the format {known!r}, not {FORMAT}: written by a newer jaxes"
        )
    if digest != digest_of(about):
        raise ValueError(f"policy: {file} is damaged: it was changed since it was written")
    return about


def _read(file: Path, digest: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"policy: {file} cannot be read ({brief(error)})") from error
    if digest_of(content) != digest:
        raise ValueError(f"policy: {file} is damaged: its sha256 is not the one in {ABOUT}")
    return content


def _rebuilt(
    about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], files: Mapping[str, bytes]
) -> tuple[PolicyState, Apply]:
    """A built-in network, from its spec and its arrays."""
    arguments = dict(about["policy"])
    factory = POLICIES[arguments.pop("name")](**arguments)
    num_outputs = about["action_size"] or about["num_actions"]
    policy, shapes = make_policy(factory, about["observation_size"], num_outputs)
    leaves = [jnp.asarray(arrays[name]) for name in named(shapes)]
    params = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    statistics = [arrays.get(f"observations/{field}") for field in Normalizer._fields]
    normalizer = None if statistics[0] is None else Normalizer(*map(jnp.asarray, statistics))

    def apply(policy_state: PolicyState, observation: Array) -> tuple[Array, PolicyState]:
        if normalizer is not None:
            observation = normalizer(observation)
        outputs, policy_state = policy.apply(params, policy_state, observation)
        return outputs if about["num_actions"] is None else greatest(outputs), policy_state

    return policy.initial_state, apply


def _exported(
    about: Mapping[str, Any], arrays: Mapping[str, np.ndarray], files: Mapping[str, bytes]
) -> tuple[Any, Apply]:
    """Any network, as the computation that was exported; its memory is a tuple of leaves."""
    step = _of_one(files[STEP])

    def apply(policy_state: tuple, observation: Array) -> tuple[Array, tuple]:
        action, *leaves = step(*policy_state, observation)
        return action, tuple(leaves)

    if START in files:
        start = _of_one(files[START])
        return lambda key: start(jax.random.key_data(key)), apply
    count = sum(name.startswith("memory/") for name in arrays)
    return tuple(jnp.asarray(arrays[f"memory/{i}"]) for i in range(count)), apply


def _of_one(program: bytes) -> Callable[..., tuple[Array, ...]]:
    """The exported computation of a batch as one of a single episode, which vmaps onto batches."""
    from jax import export

    exported = export.deserialize(bytearray(program))

    @jax.custom_batching.custom_vmap
    def of_batch(*leaves: Array) -> tuple[Array, ...]:
        return tuple(exported.call(*leaves))

    @of_batch.def_vmap
    def _(size: int, batched: list[bool], *leaves: Array) -> tuple[tuple, tuple]:
        """A batch of batches is a longer one."""
        whole = [
            x if is_batched else jnp.broadcast_to(x, (size, *x.shape))
            for x, is_batched in zip(leaves, batched, strict=True)
        ]
        outputs = of_batch(*[x.reshape(size * x.shape[1], *x.shape[2:]) for x in whole])
        split = tuple(y.reshape(size, y.shape[0] // size, *y.shape[1:]) for y in outputs)
        return split, (True,) * len(split)

    def of_one(*leaves: Array) -> tuple[Array, ...]:
        return tuple(y[0] for y in of_batch(*[x[None] for x in leaves]))

    return of_one
