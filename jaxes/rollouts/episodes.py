"""What an episode is: a policy acts in an environment until it ends, and this is added up.

    state, observation = environment.reset(key);  memory = policy's initial state
    until done, or diverged, or after episode_length steps:
        action, memory = act(params, memory, observation)
        state, observation, reward, done = environment.step(state, action)
        total_reward += reward;  discounted_return += γ^length · reward;  length += 1

Written for one episode; `make_simulation` makes of it what the lanes run.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.environments.base import Environment, EnvState, shapes_of_reset
from jaxes.policies import Policy, PolicyState, initial_state
from jaxes.rollouts.lanes import Simulation

DIVERGED, TRUNCATED = 1, 2
Act = Callable[[Any, PolicyState, Array], tuple[Array, PolicyState]]


class Episode(NamedTuple):
    """One episode's outcome, complete or so far.

    Attributes:
      total_reward: float32 [], the return.
      discounted_return: float32 [], Σ γ^t r_t.
      length: int32 [], steps.
      flags: int32 [], why it ended: `DIVERGED`, `TRUNCATED`, or by itself, 0.
    """

    total_reward: Array
    discounted_return: Array
    length: Array
    flags: Array

    @property
    def diverged(self) -> Array:
        """bool [], whether the physics left the finite numbers; the episode ended there."""
        return self.flags == DIVERGED

    @property
    def truncated(self) -> Array:
        """bool [], whether it was cut at `episode_length`, while it could have gone on."""
        return self.flags == TRUNCATED

    @classmethod
    def none(cls) -> "Episode":
        """Before the first step."""
        zero, no_steps = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
        return cls(zero, zero, no_steps, no_steps)


class Tally(NamedTuple):
    """What else is noted of an episode, where it runs.

    Attributes:
      moments: float32 [2, O], of its observations, or `()`.
      measures: float32 [] by name: what `environment.measure` says, summed or of the last state.
    """

    moments: Any
    measures: dict[str, Array]


class Origin(NamedTuple):
    """What an episode starts from: its key, and what of its environment's system is its own, a
    pytree, or `()`."""

    key: Array
    system: Any = ()


class Context(NamedTuple):
    """What an episode acts with, as long as it runs.

    Attributes:
      params: what `act` is given: a policy's parameters, and whatever else differs between jobs.
      discount: float32 [], γ.
      limit: int32 [], steps after which it is cut; None where that is the same for all.
    """

    params: Any
    discount: Array
    limit: Array | None = None


class State(NamedTuple):
    """Where an episode is; `weight` is γ^length, `system` its origin's."""

    env_state: EnvState
    observation: Array
    policy_state: PolicyState
    weight: Array
    system: Any = ()


def make_simulation(
    environment_in: Callable[[Any], Environment],
    act: Act,
    policy: Policy,
    *,
    episode_length: int,
    measures: Iterable[str] = (),
    num_observations: int | None = None,
    center: Callable[[Any], Array] | None = None,
) -> Simulation:
    """What the lanes run for a policy in environments; origins are `Origin`, contexts `Context`.

    Args:
      environment_in: `(system) -> environment`, the one in which an episode of this origin is
        played: all have the same functions, and states of the same shapes.
      act: `(params, policy_state, observation [O]) -> (action, policy_state)`, of one job; the
        action is what `environment.step` takes.
      policy: whose memory an episode starts with.
      episode_length: an episode ends after this many steps, if its context has no limit.
      measures: the names of what the environments' `measure` tells.
      num_observations: O, if the moments of the first O observations x that the policy acts on are
        tallied, Σ(x-c) and Σ(x-c)² [2, O]; then also
      center: `(params) -> [O]`, about which they are taken: near their mean, for precision.
    """

    def start(origin: Origin) -> State:
        env_state, observation = environment_in(origin.system).reset(origin.key)
        policy_state = initial_state(policy, jax.random.fold_in(origin.key, 1))
        one = jnp.ones((), jnp.float32)
        return State(env_state, observation, policy_state, one, origin.system)

    def step(
        context: Context, state: State, episode: Episode, tally: Tally
    ) -> tuple[State, Episode, Tally, Array]:
        environment = environment_in(state.system)
        action, policy_state = act(context.params, state.policy_state, state.observation)
        env_state, observation, reward, done = environment.step(state.env_state, action)

        # What the policy acted on is only looked at for the reset's: later it has been already.
        acted_on, seen = (jnp.all(jnp.isfinite(x)) for x in (state.observation, observation))
        diverged = ~(jnp.isfinite(reward) & acted_on & seen)
        reward = jnp.where(diverged, 0, reward).astype(jnp.float32)
        length = episode.length + 1
        cut = length >= (episode_length if context.limit is None else context.limit)
        so_far = Episode(
            total_reward=episode.total_reward + reward,
            discounted_return=episode.discounted_return + state.weight * reward,
            length=length,
            flags=jnp.where(diverged, DIVERGED, jnp.where(cut & ~done, TRUNCATED, 0)),
        )
        moments = tally.moments
        if center is not None:
            moments = _add(moments, state.observation, center(context.params))
        measures = {
            name: value + tally.measures[name] if name in environment.summed else value
            for name, value in measured(environment, env_state).items()
        }
        weight = state.weight * context.discount
        state = State(env_state, observation, policy_state, weight, state.system)
        return state, so_far, Tally(moments, measures), done | diverged | cut

    zero = jnp.zeros((), jnp.float32)
    moments = () if num_observations is None else jnp.zeros((2, num_observations), jnp.float32)
    return Simulation(
        start=jax.vmap(start),
        step=jax.vmap(step),
        outcome=Episode.none(),
        tally=Tally(moments, dict.fromkeys(measures, zero)),
    )


def measures_of(environment: Environment) -> list[str]:
    """The names of what its `measure` tells."""
    env_state, _ = shapes_of_reset(environment.reset)
    return list(jax.eval_shape(partial(measured, environment), env_state))


def measured(environment: Environment, env_state: EnvState) -> dict[str, Array]:
    """What the environment tells of this state beside its reward."""
    if environment.measure is None:
        return {}
    found = environment.measure(env_state)
    return {name: jnp.asarray(found[name], jnp.float32) for name in sorted(found)}


def _add(moments: Array, observation: Array, center: Array) -> Array:
    observation = observation[: center.size]
    observed = jnp.isfinite(observation)  # always, unless the reset itself diverged
    difference = jnp.where(observed, observation - center, 0).astype(jnp.float32)
    return moments + jnp.stack([difference, difference**2])
