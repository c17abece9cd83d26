"""The policy leaves its run: what `jaxes.policy_directory` reads is written."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, failing, is_key, kinds, show
from jaxes.core import Problem, TrainState
from jaxes.environments import observation_size
from jaxes.files import digest_of, whole_folder
from jaxes.policies import Policy, initial_state
from jaxes.policy_directory import ABOUT, ARRAYS, FORMAT, START, STEP, named
from jaxes.specs import spec_of
from jaxes.training.identity import PACKAGES, read_run, versions
from jaxes.training.metrics import finite
from jaxes.training.run import RunResult

PLATFORMS = ("cpu", "cuda", "tpu")


def check_policy_search(problem: Problem) -> None:
    """Raises a ValueError for a problem whose solutions are no policies."""
    if problem.policy is None or problem.environment is None:
        raise ValueError("run: it has no policy to export: its problem is no policy search")


@jax.disable_jit(False)  # as in `train`
def write_policy(problem: Problem, result: RunResult, path: Path) -> None:
    """Writes the directory of a run's policy, whole.

    Args:
      problem: the run's, a policy search.
      result: its state, and the tests that are told of.
      path: where nothing is yet.

    Raises:
      ValueError: the result is one of another problem, or the policy cannot be exported.
    """
    _check_fits(problem, result.state)
    assert problem.policy is not None
    # From the host: what lies on several devices would be exported for as many.
    policy = problem.policy(*jax.device_get((result.state.strategy.mean, result.state.problem)))
    size = observation_size(problem.environment)
    with failing("policy cannot be exported"):
        files = _files_of(policy, size)
    about = _about(problem, policy, result) | {
        "observation_size": size,
        "files": {name: digest_of(content) for name, content in files.items()},
    }
    about = json.loads(json.dumps(about, default=float))
    about["sha256"] = digest_of(about)
    with whole_folder(path) as folder:
        for name, content in (files | {ABOUT: json.dumps(about, indent=1).encode()}).items():
            (folder / name).write_bytes(content)


def _check_fits(problem: Problem, state: Any) -> None:
    check("run's state", type(state), isinstance(state, TrainState), "a TrainState, of jaxes.train")
    expected = jax.eval_shape(
        lambda key: (problem.initial_mean(key), problem.init(key)), jax.random.key(0)
    )
    given = state.strategy.mean, state.problem
    same = kinds(given) == kinds(expected)
    check("problem", show(expected), same, f"the run's, of the mean and state {show(given)}")


def _files_of(policy: Policy, size: int) -> dict[str, bytes]:
    """What is written of a policy, for observations [size], by name."""
    from safetensors.numpy import save

    key, observation = jax.random.key(0), jnp.zeros(size, jnp.float32)
    params, memory = policy.init(key), initial_state(policy, key)
    arrays = named(params)
    if policy.normalizer is not None:
        statistics = policy.normalizer._asdict()
        arrays |= {f"observations/{field}": value for field, value in statistics.items()}

    def step(*inputs: Array) -> tuple[Array, ...]:
        *leaves, observation = inputs
        action, after = policy.apply(params, _tree_like(memory, leaves), observation)
        return action, *_leaves_of(after)

    files = {STEP: _exported(step, *_leaves_of(memory), observation)}
    if callable(policy.initial_state):
        restored = partial(jax.random.wrap_key_data, impl=jax.random.key_impl(key))
        files[START] = _exported(
            lambda data: tuple(_leaves_of(initial_state(policy, restored(data)))),
            jax.random.key_data(key),
        )
    else:
        arrays |= {f"memory/{i}": leaf for i, leaf in enumerate(_leaves_of(memory))}
    return files | {ARRAYS: save({name: np.asarray(array) for name, array in arrays.items()})}


def _exported(of_one: Callable[..., tuple[Array, ...]], *inputs: Array) -> bytes:
    """A computation of a single episode, whose inputs are like these, as one of b of them."""
    from jax import export

    (b,) = export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((b, *x.shape), x.dtype) for x in inputs]
    program = export.export(jax.jit(jax.vmap(of_one)), platforms=PLATFORMS)
    return bytes(program(*shapes).serialize())


def _leaves_of(memory: Any) -> list[Array]:
    """Keys as their data, which need not be JAX's to be handed on."""
    return [
        jax.random.key_data(x) if is_key(x) else jnp.asarray(x) for x in jax.tree.leaves(memory)
    ]


def _tree_like(memory: Any, leaves: list[Array]) -> Any:
    """The memory of these leaves."""
    whole = [
        jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(like)) if is_key(like) else leaf
        for leaf, like in zip(leaves, jax.tree.leaves(memory), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(memory), whole)


def _about(problem: Problem, policy: Policy, result: RunResult) -> dict[str, Any]:
    """What is told of a policy beside its files."""
    environment, several = problem.environment, problem.tasks
    spec = spec_of(environment) if several is None else (spec_of(problem) or {}).get("environment")
    told = finite(result.plain())
    del told["run_dir"]  # means nothing elsewhere
    return {
        "format": FORMAT,
        "policy": policy.spec,
        "environment": spec,
        "environment_name": f"tasks {', '.join(several)}" if several else environment.name,
        "tasks": None if several is None else _tasks(problem),
        "action_size": environment.action_size,
        "num_actions": environment.num_actions,
        "episodes": problem.episodes and problem.episodes._asdict(),
        "versions": versions((*PACKAGES, "flax")),
        "run": _id_of(result.run_dir),
        "result": told,
    }


def _tasks(problem: Problem) -> dict[str, Any]:
    """How several tasks are one to a policy, which is told of them in this order."""
    settings = (spec_of(problem) or {}).get("problem", {})
    told = {field: settings.get(field) for field in ("condition", "pad")}
    return {"names": list(problem.tasks or ()), **told}


def _id_of(run_dir: Path | None) -> str | None:
    """What `run.json` says that the run is called, if it is still there."""
    if run_dir is None or not (run_dir / "run.json").exists():
        return None
    return read_run(run_dir)["id"]
