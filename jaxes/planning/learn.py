"""Trials of act, store, fit: the pure step of `jaxes.learn_to_control`."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, failing, kinds, show
from jaxes.core import TEST, TRAIN, Tests
from jaxes.environments.base import Environment, tidied
from jaxes.planning.control import Episodes, episodes_of
from jaxes.planning.data import Transitions, no_transitions, stored
from jaxes.planning.models import Model, ModelState, shapes_of_init
from jaxes.planning.planner import Agent
from jaxes.policies import Policy

LARGEST = 1e15  # of a number that is learned from


class LearnState(NamedTuple):
    """All that learning to control is, but for its key.

    Attributes:
      generation: int32 `[]`, trials completed.
      model: what the model has learned; () of the true one.
      data: what it learns from; None of the true one.
      active: bool `[]`, true; where it is false, tests are of standing still (all actions zero).
    """

    generation: Array
    model: ModelState
    data: Transitions | None
    active: Array


class Trials(NamedTuple):
    """What is learned, and how: the static arguments of `jaxes.learn_to_control`."""

    environment: Environment
    agent: Agent
    episode_length: int
    num_random_steps: int
    capacity: int
    num_test_episodes: int
    policy: Policy | None = None

    def init(self, key: Array) -> LearnState:
        """Before the first trial: a model that learns is fitted to steps of random actions."""
        model = self.agent.model
        model_key, act_key, fit_key = jax.random.split(key, 3)
        learned, data = model.init(model_key), None
        if model.fit is not None:
            data = no_transitions(self.capacity, model.observation_size, model.action_size)
            data = stored(data, *self._random_steps(act_key))
            learned, _ = model.fit(fit_key, learned, data)
        return LearnState(jnp.zeros((), jnp.int32), learned, data, jnp.bool_(True))

    def step(
        self, key: Array, state: LearnState, phase: Array
    ) -> tuple[LearnState, dict[str, Array], Tests]:
        """One trial, tests of fresh episodes, or nothing, as `jaxes.core.Generation` has it."""
        train = partial(self._trial, key, state)
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(train))
        none = self._no_tests()

        def trial() -> tuple[LearnState, dict[str, Array], Tests]:
            return *train(), none

        def test() -> tuple[LearnState, dict[str, Array], Tests]:
            return state, nothing[1], self.tests(key, state)

        def idle() -> tuple[LearnState, dict[str, Array], Tests]:
            return state, nothing[1], none

        which = jnp.where(phase == TRAIN, 0, jnp.where(phase == TEST, 1, 2))
        return jax.lax.switch(which, [trial, test, idle])

    def _run(self, keys: Array, state: LearnState) -> Episodes:
        run = episodes_of(self.environment, self.agent, self.episode_length, self.policy)
        return run(keys, state.model, state.active)

    def _trial(self, key: Array, state: LearnState) -> tuple[LearnState, dict[str, Array]]:
        act_key, fit_key = jax.random.split(key)
        episodes = self._run(act_key[None], state)
        steps = episodes.length[0]

        def mean(values: Array) -> Array:
            return jnp.sum(values) / jnp.maximum(steps, 1).astype(values.dtype)

        metrics = {
            "return/mean": episodes.returns[0],
            "plan/best": mean(episodes.values),
            "rollout/env_steps": steps,
            "rollout/episode_length": steps.astype(jnp.float32),
            "rollout/diverged": jnp.sum(episodes.diverged),
            "rollout/truncated": jnp.sum(episodes.truncated),
        }
        metrics |= {f"model/{name}": mean(value) for name, value in episodes.model.items()}
        learned, data, fit = state.model, state.data, self.agent.model.fit
        if data is not None and fit is not None:
            data = stored(data, *transitions(episodes))
            learned, metrics["model/loss"] = fit(fit_key, learned, data)
        after = LearnState(state.generation + 1, learned, data, state.active)
        return after, metrics

    def tests(self, key: Array, state: LearnState) -> Tests:
        """Of fresh episodes."""
        fresh = jax.random.fold_in(key, 1)  # the next trial draws from the key itself
        episodes = self._run(jax.random.split(fresh, self.num_test_episodes), state)
        return Tests(episodes.returns, episodes.length, episodes.diverged, episodes.truncated)

    def _no_tests(self) -> Tests:
        each = partial(jnp.zeros, self.num_test_episodes)
        return Tests(each(jnp.float32), each(jnp.int32), each(bool), each(bool))

    def _random_steps(self, key: Array) -> tuple[Transitions, Array]:
        """Steps of uniform actions `[S]`, in episodes one after another, and which are sound."""
        environment = tidied(self.environment)

        def step(carry: tuple, key: Array) -> tuple[tuple, tuple]:
            env_state, before, length = carry
            action_key, reset_key = jax.random.split(key)
            shape = (self.agent.model.action_size,)
            action = jax.random.uniform(action_key, shape, minval=-1, maxval=1)
            env_state, after, reward, done = environment.step(env_state, action)
            finite = _usable(reward, after)
            row = Transitions(before, action, reward, after, done, jnp.zeros((), jnp.int32))
            over = done | ~finite | (length + 1 >= self.episode_length)
            env_state, after = jax.lax.cond(
                over, lambda: environment.reset(reset_key), lambda: (env_state, after)
            )
            return (env_state, after, jnp.where(over, 0, length + 1)), (row, finite)

        reset_key, *_ = keys = jax.random.split(key, self.num_random_steps + 1)
        start = (*environment.reset(reset_key), jnp.zeros((), jnp.int32))
        return jax.lax.scan(step, start, keys[1:])[1]


def transitions(episodes: Episodes) -> tuple[Transitions, Array]:
    """Those of the first episode `[S]`, and which are there and sound."""
    seen = episodes.observations[0]
    rows = Transitions(
        observations=seen[:-1],
        actions=episodes.actions[0],
        rewards=episodes.rewards[0],
        next_observations=seen[1:],
        dones=episodes.dones[0],
        total=jnp.zeros((), jnp.int32),
    )
    return rows, episodes.taken[0] & jax.vmap(_usable)(rows.rewards, rows.next_observations)


def _usable(reward: Array, observation: Array) -> Array:
    """Whether a transition can be learned from: finite, and its square as well."""
    return (jnp.abs(reward) < LARGEST) & jnp.all(jnp.abs(observation) < LARGEST)


def check_fit(model: Model, capacity: int) -> None:
    """Raises a ValueError unless a model that learns is fitted as `Model` says, by its shapes."""
    if model.fit is None:
        return
    before = shapes_of_init(model)
    data = no_transitions(capacity, model.observation_size, model.action_size)
    with failing("model.fit fails"):
        found = jax.eval_shape(model.fit, jax.random.key(0), before, data)
    pair = isinstance(found, tuple) and len(found) == 2 and kinds(found[0]) == kinds(before)
    pair = pair and kinds(found[1])[1][0][0] == ()
    allowed = f"a function to (model_state, loss []), the state like {show(before)}"
    check("model.fit", show(found), pair, allowed)


def standing(state: LearnState) -> LearnState:
    """The state whose tests are of standing still."""
    return state._replace(active=jax.device_put(jnp.bool_(False), state.active.sharding))
