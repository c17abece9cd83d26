"""A learned model: a probabilistic ensemble of networks, each of which its particles keep.

Each network says a normal distribution of what changes in a step. Their spread is what the data
leaves open, each one's variance is what is noise; a plan's value is its mean over particles that
keep their network along the plan (TS∞).

    E  networks     C  capacity of the data     I  inputs of a network     K  what it predicts

Reference: Chua et al., Deep reinforcement learning in a handful of trials using probabilistic
dynamics models (NeurIPS 2018).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxes.checks import check, check_count, check_non_negative, check_positive
from jaxes.environments.base import Environment
from jaxes.planning.learner import Learner, Network
from jaxes.planning.models import Model, continuous
from jaxes.planning.objectives import check_function
from jaxes.specs import of_model, recorded

Reward = Literal["learned"] | Callable[[Array, Array, Array], Array] | None
Done = Literal["learned", "never"] | Callable[[Array], Array] | None


@recorded(of_model)
def ensemble_model(
    environment: Environment,
    *,
    members: int = 5,
    particles: int | None = None,
    hidden: tuple[int, ...] = (64, 64),
    probabilistic: bool = True,
    reward: Reward = None,
    done: Done = None,
    features: Callable[[Array], Array] | None = None,
    num_updates: int = 1500,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    bound: float = 1.0,
) -> Model:
    """A probabilistic ensemble (PETS), as it is learned from an environment's observations.

    Inputs and targets (the change of the observation; the reward, where it is learned) are
    standardized on all data before each fit. A network learns from a bootstrap of the data: as
    many rows, drawn with replacement. Fits go on from the last parameters and the last state of
    AdamW.

    Predicted observations stay within what the data showed, `bound` standard deviations beyond its
    extremes, rewards within the data's; `model/bounded` is the share of those that were cut.

    Args:
      environment: whose sizes, and whose `reward_fn` and `done_fn`, it has.
      members: E, networks.
      particles: P, copies of a plan, a multiple of E; E by default.
      hidden: sizes of a network's hidden layers.
      probabilistic: whether a network says a variance, and particles are drawn; otherwise it says
        what it expects, by least squares.
      reward: `learned`, or a function `(observation [O], action [A], next observation [O]) -> []`;
        by default the environment's, where it has one, and learned otherwise.
      done: `learned`, `never`, or a function `(next observation [O]) -> bool []`; by default the
        environment's, where it has one, and learned otherwise.
      features: `(observation [O]) -> [F]`, what a network sees of it, such as sine and cosine of an
        angle.
      num_updates: steps of AdamW a fit.
      batch_size: transitions a step and network.
      learning_rate: of AdamW.
      weight_decay: of AdamW, at least 0.
      bound: at least 0, in standard deviations.

    Raises:
      ValueError: a value outside its range, particles that do not divide over the members, discrete
        actions, a function that fails.
    """
    num_observations = continuous(environment)
    action_size = environment.num_outputs
    for field, count in [
        ("members", members),
        ("num_updates", num_updates),
        ("batch_size", batch_size),
    ]:
        check_count(field, count)
    particles = members if particles is None else particles
    check_count("particles", particles)
    divide = particles % members == 0
    check("particles", particles, divide, f"a multiple of the {members} members")
    check("hidden", hidden, isinstance(hidden, Sequence), "a sequence of sizes")
    for size in hidden:
        check_count("hidden", size)
    check("probabilistic", probabilistic, isinstance(probabilistic, bool), "True or False")
    check_positive("learning_rate", learning_rate)
    check_non_negative("weight_decay", weight_decay)
    check_non_negative("bound", bound)
    seen, action = (
        jax.ShapeDtypeStruct((size,), jnp.float32) for size in (num_observations, action_size)
    )
    reward_fn = _given("reward", reward, environment.reward_fn, ("learned",))
    if reward_fn is not None:
        check_function("reward", reward_fn, seen, action, seen)
    done_fn = _given("done", done, environment.done_fn, ("learned", "never"))
    if done_fn is not None:
        check_function("done", done_fn, seen)
    check("features", features, features is None or callable(features), "a function or None")
    num_inputs = action_size + check_function("features", features or _same, seen, ndim=1)
    return Learner(
        network=Network(
            hidden=tuple(hidden),
            size=num_observations + (reward_fn is None),
            done=done_fn is None,
            probabilistic=probabilistic,
        ),
        optimizer=optax.adamw(learning_rate, weight_decay=weight_decay),
        members=members,
        particles=particles,
        num_observations=num_observations,
        num_inputs=num_inputs,
        action_size=action_size,
        reward_fn=reward_fn,
        done_fn=done_fn,
        features=features or _same,
        num_updates=num_updates,
        batch_size=batch_size,
        bound=bound,
    ).model()


def _given(field: str, value: Any, known: Any, names: tuple[str, ...]) -> Any:
    """What is said of the reward or the end: a function, `never`, or None where it is learned."""
    value = (known or "learned") if value is None else value
    ok = callable(value) or value in names
    check(field, value, ok, f"a function or one of {', '.join(names)}")
    return {"learned": None, "never": _never}.get(value, value) if isinstance(value, str) else value


def _never(next_observation: Array) -> Array:
    return jnp.bool_(False)


def _same(observation: Array) -> Array:
    return observation
