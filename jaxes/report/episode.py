"""One episode, of which the states are kept that a film at true speed shows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.environments.base import Environment, EnvState

FPS = 30.0  # frames a second, at most; and of an environment whose `dt` is not known
TINY = 1e-6  # of a step: what rounding makes of a whole number of them


class Actor(NamedTuple):
    """What chooses actions: a policy, or a planner.

    Attributes:
      start: `(key) -> memory`, at the start of an episode.
      act: `(key, memory, env_state, observation) -> (action, memory)`.
    """

    start: Callable[[Array], Any]
    act: Callable[[Array, Any, EnvState, Array], tuple[Array, Any]]


class Episode(NamedTuple):
    """What is shown of an episode.

    Attributes:
      env_states: every so many steps one, from the first on, stacked over time on the host; keys
        of random numbers stay where they are.
      num_frames: T, how many there are.
      fps: frames a second.
      episode_return: the sum of rewards.
      length: steps.
    """

    env_states: EnvState
    num_frames: int
    fps: float
    episode_return: float
    length: int


class _Now(NamedTuple):
    env_state: EnvState
    observation: Array
    memory: Any
    going: Array
    episode_return: Array
    length: Array


def play(
    environment: Environment, actor: Actor, key: Array, episode_length: int, max_seconds: float
) -> Episode:
    """An episode to its end, or to the last step that is shown, as one program.

    Args:
      environment: a tidy one.
      actor: what acts in it.
      key: of the start, and of what the actor draws.
      episode_length: steps after which it is cut.
      max_seconds: time in the environment after which it is cut.
    """
    dt = environment.dt or 1 / FPS
    every = max(1, math.ceil(1 / (FPS * dt) - TINY))  # steps a frame
    limit = min(episode_length, math.floor(max_seconds / dt + TINY))
    run = jax.jit(partial(_run, environment, actor, limit, every))
    env_states, episode_return, length = jax.device_get(run(key))
    num_frames = int(length) // every + 1
    shown = jax.tree.map(lambda leaf: leaf[:num_frames], env_states)
    fps = round(1 / (every * dt), 6)
    return Episode(shown, num_frames, fps, float(episode_return), int(length))


def _run(
    environment: Environment, actor: Actor, limit: int, every: int, key: Array
) -> tuple[EnvState, Array, Array]:
    """The states at each frame, return and length; after the end the last state stays."""

    def step(now: _Now) -> _Now:
        action, memory = actor.act(
            jax.random.fold_in(key, now.length + 2), now.memory, now.env_state, now.observation
        )
        env_state, observation, reward, done = environment.step(now.env_state, action)
        total = now.episode_return + reward.astype(jnp.float32)
        after = _Now(env_state, observation, memory, ~done, total, now.length + 1)
        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
        # Where physics diverged there is nothing to draw: the state before it is the last.
        return jax.lax.cond(finite, lambda: after, lambda: now._replace(going=jnp.bool_(False)))

    def frame(now: _Now, _: None) -> tuple[_Now, EnvState]:
        def next_step(_: Array, now: _Now) -> _Now:
            goes_on = now.going & (now.length < limit)
            return jax.lax.cond(goes_on, step, lambda now: now, now)

        return jax.lax.fori_loop(0, every, next_step, now), now.env_state

    env_state, observation = environment.reset(key)
    memory = actor.start(jax.random.fold_in(key, 1))
    zero = jnp.zeros((), jnp.float32)
    begun = _Now(env_state, observation, memory, jnp.bool_(True), zero, jnp.zeros((), jnp.int32))
    ended, env_states = jax.lax.scan(frame, begun, length=limit // every + 1)
    return env_states, ended.episode_return, ended.length
