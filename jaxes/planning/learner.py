"""What an ensemble is made of: networks, what they are fitted to, and what they predict."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxes.environments.base import EnvState
from jaxes.planning.data import Transitions
from jaxes.planning.models import Model

FLOOR = 1e-5  # of 1 + |mean|; a standard deviation below it is that of a constant
LOG_VARIANCE = (-10.0, 0.5)  # where its learned bounds begin, in standardized units
WATCHED = 100  # updates, over which the loss is reported


class Scale(NamedTuple):
    """Numbers are standardized as (x - mean) / std; constants, whose std is 0, as x - mean."""

    mean: Array
    std: Array

    @classmethod
    def of(cls, rows: Array, valid: Array) -> "Scale":
        """From the valid rows of `[C, n]`."""
        count = jnp.maximum(jnp.sum(valid), 1)
        mean = jnp.sum(jnp.where(valid[:, None], rows, 0), axis=0) / count
        square = jnp.sum(jnp.where(valid[:, None], (rows - mean) ** 2, 0), axis=0) / count
        std = jnp.sqrt(square)
        return cls(mean, jnp.where(std <= FLOOR * (1 + jnp.abs(mean)), 0.0, std))

    def __call__(self, rows: Array) -> Array:
        return (rows - self.mean) / jnp.where(self.std == 0, 1.0, self.std)

    def undo(self, rows: Array) -> Array:
        return self.mean + self.std * rows


class Bounds(NamedTuple):
    low: Array
    high: Array


class Ensemble(NamedTuple):
    """What is learned.

    Attributes:
      params: of the networks, each leaf `[E, ...]`.
      optimizer: optax's state, each leaf `[E, ...]`.
      inputs: scale of the inputs `[I]`.
      targets: scale of what is predicted `[K]`.
      observations: bounds of the data `[O]`, within which predictions are kept.
      rewards: likewise `[]`.
    """

    params: Any
    optimizer: Any
    inputs: Scale
    targets: Scale
    observations: Bounds
    rewards: Bounds


class Member(NamedTuple):
    """One network, as its particles predict with it."""

    params: Any
    inputs: Scale
    targets: Scale
    observations: Bounds
    rewards: Bounds


class Imagined(NamedTuple):
    """Where a particle is: `[O]`, and the share of its predictions that were bounded, `[]`."""

    observation: Array
    bounded: Array
    steps: Array  # []


class Network(nn.Module):
    hidden: tuple[int, ...]
    size: int  # K
    done: bool
    probabilistic: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        """Mean `[K]` and log variance `[K]`, standardized, and the logit of the end `[]`."""
        for size in self.hidden:
            x = nn.swish(nn.Dense(size)(x))
        low, high = (
            self.param(name, nn.initializers.constant(value), (self.size,))
            for name, value in zip(("low", "high"), LOG_VARIANCE, strict=True)
        )
        mean, raw = jnp.split(nn.Dense(2 * self.size)(x), 2)
        log_variance = high - nn.softplus(high - raw)
        log_variance = low + nn.softplus(log_variance - low)
        if not self.probabilistic:
            log_variance = jnp.zeros_like(mean)
        end = nn.Dense(1)(x)[0] if self.done else jnp.float32(-1)
        return mean, log_variance, end


@dataclasses.dataclass(frozen=True)
class Learner:
    """The static arguments of `ensemble_model`, and what is done with them."""

    network: Network
    optimizer: optax.GradientTransformation
    members: int
    particles: int
    num_observations: int
    num_inputs: int
    action_size: int
    reward_fn: Callable[..., Array] | None
    done_fn: Callable[..., Array] | None
    features: Callable[[Array], Array]
    num_updates: int
    batch_size: int
    bound: float

    def model(self) -> Model:
        return Model(
            step=self.step,
            action_size=self.action_size,
            observation_size=self.num_observations,
            start=self.start,
            init=self.init,
            particles=self.as_particles,
            num_particles=self.particles,
            fit=self.fit,
            noisy=self.network.probabilistic,
            report=lambda state: {"bounded": state.bounded / jnp.maximum(state.steps, 1)},
        )

    def init(self, key: Array) -> Ensemble:
        """Networks that have seen nothing."""
        keys = jax.random.split(key, self.members)
        params = jax.vmap(self.network.init, (0, None))(keys, jnp.zeros(self.num_inputs))
        wide = jnp.full(self.num_observations, jnp.finfo(jnp.float32).max)
        return Ensemble(
            params=params,
            optimizer=jax.vmap(self.optimizer.init)(params),
            inputs=_unit(self.num_inputs),
            targets=_unit(self.network.size),
            observations=Bounds(-wide, wide),
            rewards=Bounds(-wide[0], jnp.copy(wide[0])),
        )

    def start(self, env_state: EnvState, observation: Array) -> Imagined:
        zero = jnp.zeros((), jnp.float32)
        return Imagined(observation.astype(jnp.float32), zero, zero)

    def as_particles(self, state: Ensemble) -> Member:
        """Each network for so many particles in turn, each leaf `[P, ...]`."""
        which = jnp.arange(self.particles) % self.members
        params = jax.tree.map(lambda leaf: leaf[which], state.params)
        scales = (state.inputs, state.targets, state.observations, state.rewards)

        def repeat(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf, (self.particles, *leaf.shape))

        return Member(params, *jax.tree.map(repeat, scales))

    def step(
        self, member: Member, state: Imagined, action: Array, key: Array
    ) -> tuple[Imagined, Array, Array, Array]:
        before = state.observation
        inputs = member.inputs(jnp.concatenate([self.features(before), action]))
        said: Any = self.network.apply(member.params, inputs)
        mean, log_variance, end = said
        if self.network.probabilistic:
            mean += jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        change = member.targets.undo(mean)
        predicted = before + change[: self.num_observations]
        observation = jnp.clip(predicted, *member.observations)
        cut = jnp.any(predicted != observation)
        if self.reward_fn is None:
            reward = jnp.clip(change[-1], *member.rewards)
            cut |= reward != change[-1]
        else:
            known = self.reward_fn(before, action, observation)
            reward = jnp.asarray(known, jnp.float32)
        done = end > 0 if self.done_fn is None else self.done_fn(observation)
        after = Imagined(observation, state.bounded + cut, state.steps + 1)
        return after, observation, reward, jnp.asarray(done, bool)

    def fit(self, key: Array, state: Ensemble, data: Transitions) -> tuple[Ensemble, Array]:
        """The networks after a fit, and their mean loss over its last updates."""
        capacity = data.rewards.size
        count = jnp.maximum(data.num_rows, 1)
        valid = jnp.arange(capacity) < data.num_rows
        changes = data.next_observations - data.observations
        if self.reward_fn is None:
            changes = jnp.concatenate([changes, data.rewards[:, None]], axis=1)
        seen = jnp.concatenate([jax.vmap(self.features)(data.observations), data.actions], axis=1)
        state = state._replace(
            inputs=Scale.of(seen, valid),
            targets=Scale.of(changes, valid),
            observations=self.bounds(data.next_observations, valid),
            rewards=_extremes(data.rewards, valid),
        )
        inputs, targets = state.inputs(seen), state.targets(changes)
        bootstrap_key, key = jax.random.split(key)
        bootstrap = jax.random.randint(bootstrap_key, (self.members, capacity), 0, count)

        def update(carry: tuple, key: Array) -> tuple[tuple, Array]:
            draws = jax.random.randint(key, (self.members, self.batch_size), 0, count)
            rows = jnp.take_along_axis(bootstrap, draws, axis=1)
            batches = (inputs[rows], targets[rows], data.dones[rows])
            params, optimizer, loss = jax.vmap(self.updated)(carry, *batches)
            return (params, optimizer), jnp.mean(loss)

        keys = jax.random.split(key, self.num_updates)
        learned, losses = jax.lax.scan(update, (state.params, state.optimizer), keys)
        params, optimizer = learned
        return state._replace(params=params, optimizer=optimizer), jnp.mean(losses[-WATCHED:])

    def updated(
        self, learned: tuple[Any, Any], inputs: Array, targets: Array, dones: Array
    ) -> tuple[Any, Any, Array]:
        params, optimizer = learned
        loss, slope = jax.value_and_grad(self.loss)(params, inputs, targets, dones)
        change, moved = self.optimizer.update(slope, optimizer, params)
        after = (optax.apply_updates(params, change), moved)
        # One step out of the finite numbers would stay in the moments for ever.
        finite = jnp.isfinite(loss) & jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slope)])
        )
        kept = jax.tree.map(partial(jnp.where, finite), after, learned)
        return *kept, loss

    def loss(self, params: Any, inputs: Array, targets: Array, dones: Array) -> Array:
        """Mean over rows of Σ_k ½ ((y_k - m_k)² / v_k + ln v_k), the negative log likelihood but
        for a constant, plus what holds the bounds of v together (Chua et al. 2018, appendix A.1);
        plus the cross-entropy of the end, where that is learned."""
        said: Any = jax.vmap(self.network.apply, (None, 0))(params, inputs)
        mean, log_variance, end = said
        squares = (targets - mean) ** 2 * jnp.exp(-log_variance)
        loss = jnp.mean(jnp.sum(squares + log_variance, axis=1)) / 2
        own = params["params"]
        loss += 0.01 * jnp.sum(own["high"] - own["low"])
        if self.done_fn is None:
            loss += jnp.mean(optax.sigmoid_binary_cross_entropy(end, dones.astype(jnp.float32)))
        return loss

    def bounds(self, observations: Array, valid: Array) -> Bounds:
        low, high = _extremes(observations, valid)
        margin = self.bound * jnp.where(valid[:, None], observations, jnp.nan)
        spread = jnp.nan_to_num(jnp.nanstd(margin, axis=0))
        return Bounds(low - spread, high + spread)


def _unit(size: int) -> Scale:
    return Scale(jnp.zeros(size), jnp.ones(size))


def _extremes(rows: Array, valid: Array) -> Bounds:
    """Of the valid ones; everything where there is none."""
    widest = jnp.finfo(rows.dtype).max
    valid = valid.reshape(-1, *(1,) * (rows.ndim - 1))
    some = jnp.any(valid)
    low = jnp.min(jnp.where(valid, rows, widest), axis=0)
    high = jnp.max(jnp.where(valid, rows, -widest), axis=0)
    return Bounds(jnp.where(some, low, -widest), jnp.where(some, high, widest))
