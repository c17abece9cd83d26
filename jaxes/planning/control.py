"""Whole episodes under a planner, as one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_count, check_seed
from jaxes.environments.base import Environment, EnvState, tidied
from jaxes.planning.models import Model, ModelState, continuous
from jaxes.planning.planner import Agent, Planner, PlannerState
from jaxes.policies import Policy, initial_state


class Episodes(NamedTuple):
    """E episodes of at most S steps.

    Attributes:
      returns: `[E]`, the sums of rewards; of one that diverged, as far as it got.
      length: int32 `[E]`, steps.
      diverged: bool `[E]`, whether an observation or a reward left the finite numbers.
      truncated: bool `[E]`, whether it was cut at its bound, while it could have gone on.
      observations: `[E, S + 1, O]`, the first before the first step; zeros after the end.
      actions: `[E, S, A]`, zeros after the end.
      rewards: `[E, S]`, zeros after the end.
      dones: bool `[E, S]`, true in the step that ended it.
      values: `[E, S]`, the best that the objective said of a plan; zeros after the end.
      model: what the model reported of plans, `[E, S]` by name.
    """

    returns: Array
    length: Array
    diverged: Array
    truncated: Array
    observations: Array
    actions: Array
    rewards: Array
    dones: Array
    values: Array
    model: dict[str, Array]

    @property
    def taken(self) -> Array:
        """bool `[E, S]`, the steps that an episode has."""
        return jnp.arange(self.rewards.shape[-1]) < self.length[..., None]


class _Going(NamedTuple):
    """Of one episode, while it goes on."""

    env_state: EnvState
    observation: Array
    planner: PlannerState
    going: Array
    diverged: Array


def control(
    environment: Environment,
    planner: Planner,
    model: Model,
    *,
    num_episodes: int = 1,
    episode_length: int = 1000,
    seed: int = 0,
    model_state: ModelState | None = None,
    policy: Policy | None = None,
) -> Episodes:
    """Acts in whole episodes, planning in every step: one program, one dispatch, compiled once for
    these arguments.

    Args:
      environment: where it acts.
      planner: how actions are chosen.
      model: what it predicts with: `jaxes.planning.true_model(environment)`, or a learned one.
      num_episodes: E, side by side.
      episode_length: S, steps after which an episode is cut.
      seed: of starts and searches.
      model_state: of a model that learns, what it learned (see `jaxes.learn_to_control`).
      policy: its actions are the mean of an episode's first search, as
        `problem.policy(result.state.strategy.mean, result.state.problem)` gives it.

    Raises:
      ValueError: a value outside its range, an environment, a model or an objective that do not fit
        each other, discrete actions; before anything is compiled.

    Example:
      >>> pendulum = jaxes.environments.pendulum()
      >>> planner = jaxes.planning.planner(jaxes.cem(40, sigma=0.5), horizon=30)
      >>> episodes = jaxes.control(pendulum, planner, jaxes.planning.true_model(pendulum))
    """
    check_count("num_episodes", num_episodes)
    check_count("episode_length", episode_length)
    check_seed("seed", seed)
    allowed = "a Policy, as problem.policy(mean, problem_state) gives it"
    check("policy", policy, policy is None or isinstance(policy, Policy), allowed)
    agent_in(environment, planner, model)
    if model.fit is not None and model_state is None:
        raise ValueError("model_state must be given for a model that learns, got None")
    make = _program if _hashes(environment, planner, model, policy) else _program.__wrapped__
    program = make(environment, planner, model, episode_length, policy)
    keys = jax.random.split(jax.random.key(seed), num_episodes)
    state = model.init(jax.random.key(seed)) if model_state is None else model_state
    return program(keys, state)


def agent_in(environment: Environment, planner: Planner, model: Model) -> Agent:
    """The planner with its model, if they fit the environment.

    Raises:
      ValueError: they do not.
    """
    size = continuous(environment)
    check("planner", planner, isinstance(planner, Planner), "made by jaxes.planning.planner")
    agent = planner.with_model(model)
    for what, found, needed in [
        ("observation_size", model.observation_size, size),
        ("action_size", model.action_size, environment.num_outputs),
    ]:
        check(f"model.{what}", found, found == needed, f"{needed}, as {environment.name} has it")
    return agent


@functools.lru_cache(maxsize=32)
def _program(
    environment: Environment,
    planner: Planner,
    model: Model,
    episode_length: int,
    policy: Policy | None,
) -> Callable[[Array, ModelState], Episodes]:
    agent = agent_in(environment, planner, model)
    return jax.jit(episodes_of(environment, agent, episode_length, policy))


def _hashes(*parts: Any) -> bool:
    try:
        hash(parts)
    except TypeError:  # of hyperparameters that are arrays, say
        return False
    return True


def episodes_of(
    environment: Environment, agent: Agent, episode_length: int, policy: Policy | None = None
) -> Callable[..., Episodes]:
    """`(keys [E], model_state, active=True) -> Episodes`, pure; where `active`, bool `[]`, is false
    all actions are zero, and nothing is planned."""
    environment = tidied(environment)
    model, horizon = agent.model, agent.planner.horizon

    def run(keys: Array, model_state: ModelState, active: Array | bool = True) -> Episodes:
        def start(key: Array) -> _Going:
            env_state, observation = environment.reset(key)
            finite = jnp.all(jnp.isfinite(observation))
            mean = None
            if policy is not None:
                mean = proposed(policy, model, horizon, key, model_state, env_state, observation)
            planner_state = agent.init(episode_length, mean)
            return _Going(env_state, observation, planner_state, finite, ~finite)

        def plan(key: Array, episode: _Going) -> tuple:
            state = model.start(episode.env_state, episode.observation)
            return agent.plan(key, model_state, state, episode.planner)

        def stand(key: Array, episode: _Going) -> tuple:
            of_plan = jax.eval_shape(plan, key, episode)
            action, planner_state, info = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), of_plan
            )
            return action, planner_state._replace(mean=episode.planner.mean), info

        def step(key: Array, episode: _Going) -> tuple[_Going, tuple]:
            # A scalar condition, so that what is not done is not computed.
            action, planner_state, info = jax.lax.cond(active, plan, stand, key, episode)
            env_state, observation, reward, done = environment.step(episode.env_state, action)
            finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
            going = episode.going
            row = (observation, action, reward, done | ~finite, info.value, info.model, going)
            after = _Going(
                env_state,
                observation,
                planner_state,
                going & finite & ~done,
                episode.diverged | (going & ~finite),
            )
            return after, jax.tree.map(functools.partial(_where, going), row)

        def steps(going: _Going, t: Array) -> tuple[_Going, tuple]:
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, t + 1)
            every = jax.vmap(step)
            none = jax.eval_shape(every, step_keys, going)[1]
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), none)
            return jax.lax.cond(
                jnp.any(going.going),
                lambda: every(step_keys, going),
                lambda: (going, zeros),
            )

        begun = jax.vmap(start)(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
        ended, rows = jax.lax.scan(steps, begun, jnp.arange(episode_length, dtype=jnp.int32))
        rows = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rows)
        seen, actions, rewards, dones, values, reported, taken = rows
        sound = taken & jnp.isfinite(rewards)
        first = jnp.nan_to_num(begun.observation)[:, None]
        return Episodes(
            returns=jnp.sum(jnp.where(sound, rewards, 0), axis=1),
            length=jnp.sum(taken, axis=1, dtype=jnp.int32),
            diverged=ended.diverged,
            truncated=ended.going,
            observations=jnp.concatenate([first, seen], axis=1),
            actions=actions,
            rewards=rewards,
            dones=dones,
            values=values,
            model=reported,
        )

    return run


def proposed(
    policy: Policy,
    model: Model,
    horizon: int,
    key: Array,
    model_state: ModelState,
    env_state: EnvState,
    observation: Array,
) -> Array:
    """What a policy does in the model `[H, A]`, from a start of the environment: the first of its
    particles."""
    params = policy.init(key)
    member = jax.tree.map(lambda leaf: leaf[0], model.particles(model_state))

    def step(carry: tuple, key: Array) -> tuple[tuple, Array]:
        state, observation, memory = carry
        action, memory = policy.apply(params, memory, observation)
        action = jnp.clip(action, -1, 1)
        state, observation, _, _ = model.step(member, state, action, key)
        return (state, observation, memory), action

    begun = (model.start(env_state, observation), observation, initial_state(policy, key))
    _, actions = jax.lax.scan(step, begun, jax.random.split(key, horizon))
    return jnp.where(jnp.isfinite(actions), actions, 0.0)


def _where(going: Array, value: Any) -> Array:
    return jnp.where(going, value, jnp.zeros_like(value))
