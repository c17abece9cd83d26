"""Whole episodes under a planner, as one program."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.checks import check, check_count, check_seed, failing, hashes, kinds, show
from jaxes.environments.base import Environment, EnvState, shapes_of_reset, tidied
from jaxes.planning.models import Model, ModelState, continuous, shapes_of_init
from jaxes.planning.planner import Agent, Planner, PlannerState
from jaxes.policies import Policy, check_policy, initial_state

GROUP = {"cpu": 16}  # episodes side by side, at most; on other devices all


class Episodes(NamedTuple):
    """E episodes of at most S steps.

    Attributes:
      returns: `[E]`, the sums of rewards; of one that diverged, as far as it got.
      length: int32 `[E]`, steps.
      diverged: bool `[E]`, whether an observation or a reward left the finite numbers.
      truncated: bool `[E]`, whether it was cut at its bound, while it could have gone on.
      observations: `[E, S + 1, O]`, the first before the first step; zeros after the end; what was
        not finite stands where an episode diverged, as in `rewards`.
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
    the same environment, planner, model and policy: the same objects.

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
    agent_in(environment, planner, model)
    check_proposer(policy, model)
    if model.fit is not None and model_state is None:
        raise ValueError("model_state must be given for a model that learns, got None")
    make = _program if hashes((environment, planner, model, policy)) else _program.__wrapped__
    program = make(environment, planner, model, episode_length, policy)
    state = model.init(jax.random.key(seed)) if model_state is None else model_state
    expected = shapes_of_init(model)
    same = kinds(state) == kinds(expected)
    check("model_state", show(state), same, f"like what model.init gives, {show(expected)}")
    # In groups whose size says nothing of the devices, which divide them: the bits are the same.
    count = -(-num_episodes // GROUP.get(jax.default_backend(), num_episodes))
    size = -(-num_episodes // count)
    keys = jax.random.split(jax.random.key(seed), count * size).reshape(count, size)
    episodes = program(state, keys)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_episodes], episodes)


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
    with failing("model.start fails"):
        jax.eval_shape(model.start, *shapes_of_reset(tidied(environment).reset))
    shapes_of_init(model)
    return agent


@functools.lru_cache(maxsize=32)
def _program(
    environment: Environment,
    planner: Planner,
    model: Model,
    episode_length: int,
    policy: Policy | None,
) -> Callable[[ModelState, Array], Episodes]:
    run = episodes_of(environment, planner.with_model(model), episode_length, policy)
    return parallel.divided(lambda model_state, keys: run(keys, model_state))


def episodes_of(
    environment: Environment, agent: Agent, episode_length: int, policy: Policy | None = None
) -> Callable[..., Episodes]:
    """`(keys [E], model_state, active=True) -> Episodes`, pure; where `active`, bool `[]`, is false
    all actions are zero, and nothing is planned."""
    return _Control(tidied(environment), agent, episode_length, policy).run


@dataclasses.dataclass(frozen=True)
class _Control:
    environment: Environment
    agent: Agent
    episode_length: int
    policy: Policy | None

    def run(self, keys: Array, model_state: ModelState, active: Array | bool = True) -> Episodes:
        step = jax.vmap(partial(self.step, model_state, active))
        begun = jax.vmap(partial(self.start, model_state))(_folded(keys, 0))
        none = jax.eval_shape(step, keys, begun)[1]

        def steps(now: _Going, t: Array) -> tuple[_Going, tuple]:
            def all_over() -> tuple[_Going, tuple]:
                return now, jax.tree.map(jnp.zeros_like, none)

            return jax.lax.cond(
                jnp.any(now.going), lambda: step(_folded(keys, t + 1), now), all_over
            )

        ended, rows = jax.lax.scan(steps, begun, jnp.arange(self.episode_length, dtype=jnp.int32))
        rows = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rows)
        seen, actions, rewards, dones, values, reported, taken = rows
        return Episodes(
            returns=jnp.sum(jnp.where(jnp.isfinite(rewards), rewards, 0), axis=1),
            length=jnp.sum(taken, axis=1, dtype=jnp.int32),
            diverged=ended.diverged,
            truncated=ended.going,
            observations=jnp.concatenate([begun.observation[:, None], seen], axis=1),
            actions=actions,
            rewards=rewards,
            dones=dones,
            values=values,
            model=reported,
        )

    def start(self, model_state: ModelState, key: Array) -> _Going:
        reset_key, policy_key = jax.random.split(key)
        env_state, observation = self.environment.reset(reset_key)
        finite = jnp.all(jnp.isfinite(observation))
        mean = None
        if self.policy is not None:
            propose = partial(proposed, self.policy, self.agent)
            mean = propose(policy_key, model_state, env_state, observation)
        planner_state = self.agent.init(self.episode_length, mean)
        return _Going(env_state, observation, planner_state, finite, ~finite)

    def step(
        self, model_state: ModelState, active: Array | bool, key: Array, now: _Going
    ) -> tuple[_Going, tuple]:
        """One step of one episode, and the row that it leaves: zeros where it is over."""

        def plan(key: Array) -> tuple:
            state = self.agent.model.start(now.env_state, now.observation)
            return self.agent.plan(key, model_state, state, now.planner)

        def stand(key: Array) -> tuple:
            return jax.tree.map(jnp.zeros_like, jax.eval_shape(plan, key))

        # A scalar condition, so that what is not done is not computed.
        action, planner_state, info = jax.lax.cond(active, plan, stand, key)
        env_state, observation, reward, done = self.environment.step(now.env_state, action)
        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
        row = (observation, action, reward, done | ~finite, info.value, info.model, now.going)
        after = _Going(
            env_state=env_state,
            observation=observation,
            planner=planner_state,
            going=now.going & finite & ~done,
            diverged=now.diverged | (now.going & ~finite),
        )
        return after, jax.tree.map(lambda x: jnp.where(now.going, x, jnp.zeros_like(x)), row)


def _folded(keys: Array, number: Array | int) -> Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def proposed(
    policy: Policy,
    agent: Agent,
    key: Array,
    model_state: ModelState,
    env_state: EnvState,
    observation: Array,
) -> Array:
    """What a policy does in the model `[H, A]`, from a start of the environment: the first of its
    particles."""
    model = agent.model
    init_key, memory_key, model_key = jax.random.split(key, 3)
    params = policy.init(init_key)
    member = jax.tree.map(lambda leaf: leaf[0], model.particles(model_state))

    def step(carry: tuple, key: Array) -> tuple[tuple, Array]:
        state, observation, memory = carry
        action, memory = policy.apply(params, memory, observation)
        action = jnp.clip(action, -1, 1)
        state, observation, _, _ = model.step(member, state, action, key)
        return (state, observation, memory), action

    begun = (model.start(env_state, observation), observation, initial_state(policy, memory_key))
    keys = jax.random.split(model_key, agent.planner.horizon)
    _, actions = jax.lax.scan(step, begun, keys)
    return jnp.where(jnp.isfinite(actions), actions, 0.0)


def check_proposer(policy: Any, model: Model) -> None:
    """Raises a ValueError unless it is None, or a policy of the model's sizes."""
    if policy is None:
        return
    allowed = "a Policy, as problem.policy(mean, problem_state) gives it"
    check("policy", policy, isinstance(policy, Policy), allowed)
    what = f"policy fails with {model.observation_size} observations"
    check_policy(policy, model.observation_size, model.action_size, what)
