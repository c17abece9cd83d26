"""What a planner predicts with: a model of an environment, the true one or a learned one."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_count, failing, hashes, is_array
from jaxes.environments.base import (
    Environment,
    EnvState,
    observation_size,
    shapes_of_reset,
    tidied,
)
from jaxes.specs import of_model, recorded

ModelState = Any  # a pytree of arrays: what is learned; () of a true model
Member = Any  # what one particle predicts with: a row of what `Model.particles` returns
Imagined = Any  # where one particle is, in a plan


class Model(NamedTuple):
    """How a state follows from a state and an action, for one particle; the planner batches it.

    Attributes:
      step: `(member, state, action [A], key) -> (state, observation [O], reward [], done [])`; the
        action is in [-1, 1].
      action_size: A.
      observation_size: O.
      start: `(env_state, observation [O]) -> state`, where a plan begins; the environment's own
        state by default.
      init: `(key) -> model_state`, before anything is learned; () by default.
      particles: `(model_state) -> members`, each leaf with the leading axis `[P]`.
      num_particles: P, over which a plan's value is averaged.
      fit: `(key, model_state, data) -> (model_state, loss [])` on `jaxes.planning.Transitions`;
        None of a model that does not learn.
      noisy: whether a step draws noise from its key: what two generations say is then not compared.
      report: `(state) -> {name: []}` of the state at the end of a plan, told as `model/name`.
      spec: what a config says of it, or None (see `jaxes.specs`).
    """

    step: Callable[[Member, Imagined, Array, Array], tuple[Imagined, Array, Array, Array]]
    action_size: int
    observation_size: int
    start: Callable[[EnvState, Array], Imagined] = lambda env_state, observation: env_state
    init: Callable[[Array], ModelState] = lambda key: ()
    particles: Callable[[ModelState], Any] = lambda state: jax.tree.map(lambda x: x[None], state)
    num_particles: int = 1
    fit: Callable[..., tuple[ModelState, Array]] | None = None
    noisy: bool = False
    report: Callable[[Imagined], dict[str, Array]] | None = None
    spec: Mapping[str, Any] | None = None


@recorded(of_model)
def true_model(environment: Environment, *, particles: int = 1, foresees: bool = False) -> Model:
    """The environment itself.

    Args:
      environment: with continuous actions.
      particles: copies of a plan, each with noise of its own, where the environment has any.
      foresees: allows a state that holds a key and no `Environment.with_key`: the planner then
        knows the noise that is to come.

    Raises:
      ValueError: discrete actions, or such a state.

    Example:
      >>> model = jaxes.planning.true_model(jaxes.environments.pendulum())
    """
    num_observations = continuous(environment)
    check_count("particles", particles)
    check("foresees", foresees, isinstance(foresees, bool), "True or False")
    if environment.with_key is None and not foresees:
        _check_no_key(environment)
    make = _true_model if hashes(environment) else _true_model.__wrapped__
    return make(environment, num_observations, particles)


@functools.lru_cache(maxsize=32)  # one object, so that what is compiled for it is found again
def _true_model(environment: Environment, num_observations: int, particles: int) -> Model:
    environment = tidied(environment)
    fresh = environment.with_key

    def step(member: Member, state: EnvState, action: Array, key: Array) -> tuple:
        if fresh is not None:
            state = fresh(state, key)
        state, observation, reward, done = environment.step(state, action)
        return state, observation.astype(jnp.float32), jnp.asarray(reward, jnp.float32), done

    return Model(
        step,
        action_size=environment.num_outputs,
        observation_size=num_observations,
        num_particles=particles,
        particles=_none,
        noisy=fresh is not None,
    )


def _none(model_state: ModelState) -> tuple:
    return ()


def shapes_of_init(model: Model) -> ModelState:
    """What `model.init` gives, as shapes and dtypes.

    Raises:
      ValueError: it fails.
    """
    with failing("model.init fails"):
        return jax.eval_shape(model.init, jax.random.key(0))


def continuous(environment: Environment) -> int:
    """O, of an environment that plans can act in.

    Raises:
      ValueError: it has discrete actions, is randomized, or is none.
    """
    size = observation_size(environment)
    drawn = environment.randomize or environment.test_randomize
    check("environment", environment.name, drawn is None, "one that is not randomized, to plan in")
    what = f"{environment.name}: its {environment.num_actions} discrete actions"
    if environment.num_actions is not None:
        raise ValueError(f"{what} cannot be planned: plans are of continuous actions in [-1, 1]")
    return size


def _check_no_key(environment: Environment) -> None:
    env_state, _ = shapes_of_reset(environment.reset)
    for path, leaf in jax.tree_util.tree_leaves_with_path(env_state):
        raw = is_array(leaf, jnp.uint32) and leaf.shape[-1:] == (2,)
        if raw or is_array(leaf, jax.dtypes.prng_key):
            raise ValueError(
                f"{environment.name}: its state holds a key ({jax.tree_util.keystr(path)}), so "
                "that a planner would foresee the noise: give Environment.with_key, or allow it by "
                "foresees=True"
            )
