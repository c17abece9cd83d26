"""Policies: flax networks as pure functions of their parameters, with or without memory."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, check_count, check_name

Params = Any  # a pytree of arrays
PolicyState = Any  # what the policy remembers within an episode; () where it has no memory
Activation = Literal["tanh", "relu", "swish", "gelu", "elu"]
Output = Literal["tanh", "clip", "none"]

OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "clip": lambda action: jnp.clip(action, -1, 1),
    "none": lambda action: action,
}


class Policy(NamedTuple):
    """A network for one environment's sizes.

    Attributes:
      init: `(key) -> params`.
      initial_state: the memory at the start of an episode: a pytree, or `(key) -> pytree`, of a
        key that differs between episodes and is the same for all members.
      apply: `(params, policy_state, observation) -> (action, policy_state)`, one episode's step.
    """

    init: Callable[[Array], Params]
    initial_state: PolicyState | Callable[[Array], PolicyState]
    apply: Callable[[Params, PolicyState, Array], tuple[Array, PolicyState]]


PolicyFactory = Callable[[int, int], Policy]  # (observation_size, action_size) -> Policy


def initial_state(policy: Policy, key: Array) -> PolicyState:
    """The memory at the start of the episode of this key."""
    state = policy.initial_state
    return jax.tree.map(jnp.asarray, state(key) if callable(state) else state)


def _last_layer(size: int) -> nn.Dense:
    # Small initial actions: the search starts near the zero policy, where every action is possible.
    return nn.Dense(size, kernel_init=nn.initializers.variance_scaling(1e-2, "fan_in", "normal"))


class _MLP(nn.Module):
    hidden: Sequence[int]
    action_size: int
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for size in self.hidden:
            x = self.activation(nn.Dense(size)(x))
        return _last_layer(self.action_size)(x)


class _GRU(nn.Module):
    hidden_size: int
    action_size: int

    @nn.compact
    def __call__(self, memory: Array, x: Array) -> tuple[Array, Array]:
        memory, x = nn.GRUCell(self.hidden_size)(memory, x)
        return memory, _last_layer(self.action_size)(x)


def _memoryless(make_network: Callable[[int], Any], output: Output) -> PolicyFactory:
    """A policy from a network `(action_size) -> module` that maps an observation to an action."""

    def build(observation_size: int, action_size: int) -> Policy:
        network = make_network(action_size)

        def apply(
            params: Params, policy_state: PolicyState, observation: Array
        ) -> tuple[Array, PolicyState]:
            return OUTPUTS[output](network.apply(params, observation)), policy_state

        return Policy(
            init=lambda key: network.init(key, jnp.zeros(observation_size)),
            initial_state=(),
            apply=apply,
        )

    return build


def mlp(
    hidden: tuple[int, ...] = (32, 32), activation: Activation = "tanh", output: Output = "tanh"
) -> PolicyFactory:
    """A feed-forward network.

    Args:
      hidden: the sizes of the hidden layers; none makes it affine.
      activation: between layers, a name from `flax.linen`.
      output: how actions are kept in [-1, 1]: `tanh`, `clip`, or `none`.

    Raises:
      ValueError: a size below one, an unknown name.

    Example:
      >>> policy = jaxes.policies.mlp(hidden=(64, 64))(observation_size=11, action_size=3)
    """
    check("hidden", hidden, isinstance(hidden, Sequence), "a sequence of sizes")
    for size in hidden:
        check_count("hidden", size)
    check_name("activation", activation, get_args(Activation))
    check_name("output", output, get_args(Output))

    def network(action_size: int) -> nn.Module:
        return _MLP(tuple(hidden), action_size, getattr(nn, activation))

    return _memoryless(network, output)


def linear(output: Output = "clip") -> PolicyFactory:
    """`action = W · observation` from W = 0, without bias: the policy of ARS (Mania et al. 2018).

    Args:
      output: how actions are kept in [-1, 1]: `tanh`, `clip`, or `none`.

    Raises:
      ValueError: an unknown name.

    Example:
      >>> policy = jaxes.policies.linear()(observation_size=11, action_size=3)
    """
    check_name("output", output, get_args(Output))

    def network(action_size: int) -> nn.Module:
        return nn.Dense(action_size, use_bias=False, kernel_init=nn.initializers.zeros)

    return _memoryless(network, output)


def gru(hidden_size: int = 32, output: Output = "tanh") -> PolicyFactory:
    """A gated recurrent unit with a linear read-out; its memory is zero at every episode's start.

    Args:
      hidden_size: the size of the memory.
      output: how actions are kept in [-1, 1]: `tanh`, `clip`, or `none`.

    Raises:
      ValueError: a size below one, an unknown name.

    Example:
      >>> policy = jaxes.policies.gru(hidden_size=16)(observation_size=11, action_size=3)
    """
    check_count("hidden_size", hidden_size)
    check_name("output", output, get_args(Output))

    def build(observation_size: int, action_size: int) -> Policy:
        network: Any = _GRU(hidden_size, action_size)
        memory = jnp.zeros(hidden_size)

        def apply(
            params: Params, policy_state: PolicyState, observation: Array
        ) -> tuple[Array, PolicyState]:
            policy_state, action = network.apply(params, policy_state, observation)
            return OUTPUTS[output](action), policy_state

        return Policy(
            init=lambda key: network.init(key, memory, jnp.zeros(observation_size)),
            initial_state=memory,
            apply=apply,
        )

    return build


POLICIES: dict[str, Callable[..., PolicyFactory]] = {"mlp": mlp, "linear": linear, "gru": gru}
