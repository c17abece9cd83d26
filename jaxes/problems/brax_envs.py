"""Brax environments. The only module that imports brax, and only when an environment is made."""

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax
from jax import Array

from jaxes.checks import brief, check_name
from jaxes.core import Problem
from jaxes.environment import Environment
from jaxes.policies import PolicyFactory, mlp
from jaxes.problems.policy_search import Lanes, policy_search

Backend = Literal["spring", "positional", "generalized", "mjx"]

# Brax's own registry needs an import of seconds; here a line each for `jaxes list`.
ENVIRONMENTS = {
    "ant": "four legs run forward; falls end the episode",
    "fast": "a stub without physics, for testing",
    "halfcheetah": "two legs run forward; no early end",
    "hopper": "one leg hops forward; falls end the episode",
    "humanoid": "a humanoid walks forward; falls end the episode",
    "humanoidstandup": "a humanoid gets up from lying",
    "inverted_double_pendulum": "a cart balances two poles; solved at 9,000 of about 9,350",
    "inverted_pendulum": "a cart balances a pole; solved at 1,000",
    "pusher": "an arm pushes a block to a goal",
    "reacher": "a two-link arm reaches a target",
    "swimmer": "three links swim (brax 0.14.2 does not run it on current jax)",
    "walker2d": "two legs walk forward; falls end the episode",
}


def brax(
    env_name: str,
    backend: Backend = "spring",
    episode_length: int = 1000,
    num_episodes: int = 1,
    policy: PolicyFactory | None = None,
    normalize_observations: bool = True,
    observation_clip: float = 10.0,
    alive_bonus: float = 0.0,
    num_test_episodes: int = 100,
    num_lanes: Lanes = None,
) -> Problem:
    """Policy search on a Brax environment.

    A member's fitness is the mean over `num_episodes` episodes of (return - alive_bonus · steps);
    the returns themselves are reported as `return/mean` and `test/returns`.

    Args:
      env_name: a key of `ENVIRONMENTS`, or registered by `brax.envs.register_environment`.
      backend: Brax's physics pipeline.
      episode_length: steps after which an episode ends at the latest.
      num_episodes: episodes a member and generation; the same ones for all members.
      policy: from `jaxes.policies`; `mlp(hidden=(32, 32))` where none is given.
      normalize_observations: by the mean and variance of all observations so far.
      observation_clip: bound on normalized observations, > 0, in standard deviations.
      alive_bonus: subtracted from fitness each step (not from returns), so that standing still
        does not pay; the environments' own is 1 for hopper, walker2d and ant, 5 for humanoid.
      num_test_episodes: fresh episodes in a test of the mean.
      num_lanes: episodes simulated side by side on a device; by default what suits the kind of
        device, and `tune` measures what suits this one when the problem is made (see
        `jaxes.rollouts.tuning`), once for each environment and policy. On CPU it does not show in
        the results (see `jaxes.use_cpu_devices`).

    Raises:
      ValueError: an unknown environment or one that fails in its own code, a value outside its
        range; before anything is compiled.

    Example:
      >>> problem = jaxes.problems.brax("hopper", policy=jaxes.policies.mlp((64, 64)))
    """
    return policy_search(
        brax_environment(env_name, backend),
        policy or mlp(),
        episode_length=episode_length,
        num_episodes=num_episodes,
        num_test_episodes=num_test_episodes,
        normalize_observations=normalize_observations,
        observation_clip=observation_clip,
        alive_bonus=alive_bonus,
        num_lanes=num_lanes,
    )


def brax_environment(env_name: str, backend: str) -> Environment:
    """The bare environment: no auto-reset, no episode wrapper; the rollout does both."""
    check_name("backend", backend, get_args(Backend))
    with quiet():
        with _without_warp():
            from brax import envs
        from brax.envs import _envs as registered  # Brax offers no public way to list them

        check_name("env_name", env_name, sorted(registered))
        try:
            env = envs.get_environment(env_name, backend=backend)
        except Exception as error:
            raise ValueError(
                f"env_name: brax's {env_name!r} fails in its own code on backend {backend!r}: "
                f"{brief(error)}"
            ) from error

    def reset(key: Array) -> tuple[Any, Array]:
        state = env.reset(key)
        return state, state.obs

    def step(state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        state = env.step(state, action)
        return state, state.obs, state.reward, state.done.astype(bool)

    return Environment(reset, step, env.action_size, f"env_name {env_name!r} on {backend!r}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Brax and mujoco print and warn on import and on creation, and mujoco writes a log file."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Brax System, piplines")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import mujoco

        mujoco.set_mju_user_warning(_ignore_mujoco_warning)  # or MUJOCO_LOG.TXT appears in the cwd
        yield


@contextlib.contextmanager
def _without_warp() -> Iterator[None]:
    """Without a GPU mujoco.mjx has no use for warp, whose import takes as long as all others."""
    if "warp" in sys.modules or jax.default_backend() == "gpu":
        yield
        return
    sys.modules["warp"] = None  # type: ignore[assignment]  # an import of it is then an ImportError
    try:
        yield
    finally:
        del sys.modules["warp"]


def _ignore_mujoco_warning(message: str) -> None:
    del message
