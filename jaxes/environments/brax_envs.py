"""Brax environments. The only module that imports brax, and only when an environment is made."""

import contextlib
import copy
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_name, failing
from jaxes.environments.base import Environment, WithSystem
from jaxes.environments.constants import with_plain_numbers
from jaxes.environments.mujoco_frames import drawn
from jaxes.environments.quiet import quiet
from jaxes.specs import plain, recorded

Backend = Literal["spring", "positional", "generalized", "mjx"]

# Brax's own registry needs an import of seconds; here a line each for `jaxes list`.
BRAX_ENVIRONMENTS = {
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


ALIVE, FORWARD = ("healthy", "survive", "alive"), ("forward", "run", "linvel", "fwd")


@recorded()
def brax(
    env_name: str | Any, backend: Backend = "spring", options: Mapping[str, Any] | None = None
) -> Environment:
    """An environment of Brax.

    Args:
      env_name: a key of `BRAX_ENVIRONMENTS`, or registered by `brax.envs.register_environment`; or
        a Brax `Env` itself, which has its backend and options already.
      backend: Brax's physics pipeline; environments that choose their own are left with it.
      options: arguments of the environment's constructor, such as
        `{"terminate_when_unhealthy": False}`.

    Raises:
      ValueError: an unknown environment or one that fails in its own code, an unknown backend or
        option; before anything is compiled.

    Example:
      >>> environment = jaxes.environments.brax("hopper", options={"healthy_reward": 0.0})
    """
    check_name("backend", backend, get_args(Backend))
    with quiet():
        with _without_warp():
            from brax import envs
        env = env_name
        if isinstance(env, envs.Env):
            check("options", options, not options, "empty for an environment that is made already")
            return _environment(env, f"env_name {type(env).__name__}", made_of=id(env))
        from brax.envs import _envs as registered  # Brax offers no public way to list them

        check_name("env_name", env_name, sorted(registered))
        options = _checked(options, registered[env_name])
        chosen = {"backend": backend} if _takes_backend(registered[env_name]) else {}
        allowed = f"left out: {env_name!r} chooses its own"
        check("backend", backend, bool(chosen) or backend == "spring", allowed)
        given = f" with options {options}" if options else ""
        own = f"env_name: brax's {env_name!r} fails in its own code on backend {backend!r}{given}"
        with failing(own):
            env = _made(partial(envs.get_environment, env_name, **options), chosen)
    made_of: Any = id(env)
    with contextlib.suppress(TypeError):  # of options that are no plain data: one of its own
        made_of = (env_name, backend, json.dumps(plain(options), sort_keys=True))
    return _environment(env, f"env_name {env_name!r} on {backend!r}", made_of)


def _takes_backend(constructor: Callable) -> bool:
    parameters = inspect.signature(constructor).parameters.values()
    kinds = inspect.Parameter
    return any(p.name == "backend" or p.kind is kinds.VAR_KEYWORD for p in parameters)


def _made(make: Callable[..., Any], chosen: Mapping[str, Any]) -> Any:
    """Made on the chosen backend, unless the constructor passes one of its own on."""
    try:
        return make(**chosen)
    except TypeError as error:
        own = "multiple values for keyword argument 'backend'" in str(error)
        if not (chosen and own and chosen["backend"] == "spring"):
            raise
        return make()


def _checked(options: Mapping[str, Any] | None, constructor: Callable) -> dict[str, Any]:
    """The options, if the constructor takes them."""
    check("options", options, options is None or isinstance(options, Mapping), "a mapping")
    from brax.envs.base import PipelineEnv

    kinds = inspect.Parameter
    parameters = dict(inspect.signature(constructor).parameters)
    if any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values()):
        parameters |= inspect.signature(PipelineEnv).parameters  # it passes them on
    allowed = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        and name not in ("sys", "backend")
    ]
    for name in options or {}:
        check_name("options", name, allowed)
    return dict(options or {})


def _environment(env: Any, name: str, made_of: Any) -> Environment:
    dt = getattr(env, "dt", None)  # of all that have physics; a float32
    has_system = hasattr(env.unwrapped, "sys")
    bare = _with_system(env, env.unwrapped.sys) if has_system else _bare(env)
    return bare._replace(
        name=name,
        dt=None if dt is None else round(float(dt), 9),
        render=_render(env),
        system=env.unwrapped.sys if has_system else None,
        with_system=WithSystem(made_of, partial(_with_system, env)) if has_system else None,
    )


def _with_system(env: Any, system: Any) -> Environment:
    env = inner = copy.copy(env)  # what is traced must not stay in the original
    while inner is not inner.unwrapped:
        inner.env = copy.copy(inner.env)
        inner = inner.env
    inner.sys = with_plain_numbers(system)
    return _bare(env)


def _bare(env: Any) -> Environment:
    """Without auto-reset and episode wrapper; the rollout does both."""

    def numbered(state: Any) -> Any:
        """With floats where an environment may have plain numbers, booleans or integers, such as
        hopper's `done` if it cannot become unhealthy: a state has the kinds of the first one."""
        reward, done = (jnp.asarray(x, float) for x in (state.reward, state.done))
        return state.replace(reward=reward, done=done)

    def reset(key: Array) -> tuple[Any, Array]:
        state = numbered(env.reset(key))
        return state, state.obs

    def step(state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        state = numbered(env.step(state, action))
        return state, state.obs, state.reward, state.done.astype(bool)

    return Environment(
        reset, step, env.action_size, measure=_measure, summed=("alive_reward", "forward")
    )


def _render(env: Any) -> Callable | None:
    """Draws states of an environment that has a model of MuJoCo; None for others."""
    model = getattr(getattr(env, "sys", None), "mj_model", None)
    if model is None:
        return None

    def render(states: Any, width: int, height: int) -> np.ndarray:
        return drawn(model, {"qpos": states.pipeline_state.q}, width, height)

    return render


def _measure(state: Any) -> dict[str, Array]:
    """How far it came, and what it was given for being alive, where the environment's metrics tell
    of these; their names are mere convention."""
    metrics = state.metrics
    alive = [metrics[f"reward_{name}"] for name in ALIVE if f"reward_{name}" in metrics]
    forward = [metrics[f"reward_{name}"] for name in FORWARD if f"reward_{name}" in metrics]
    found = {"alive_reward": alive[0]} if alive else {}
    if "x_position" in metrics:
        found["distance"] = metrics["x_position"]
    elif forward:
        found["forward"] = forward[0]
    return found


_measure.may_lack = True  # type: ignore[attr-defined]  # some of what is summed


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
