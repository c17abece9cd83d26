"""Policies: flax networks as pure functions of their parameters, with or without memory."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_count, check_name, failing, is_array, kinds, show
from jaxes.specs import recorded

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
      normalizer: of a problem's policy, what `apply` does to observations first; None for nothing.
      spec: of a problem's policy, what a config says of its network, or None (see `jaxes.specs`).
    """

    init: Callable[[Array], Params]
    initial_state: PolicyState | Callable[[Array], PolicyState]
    apply: Callable[[Params, PolicyState, Array], tuple[Array, PolicyState]]
    normalizer: Any = None
    spec: Mapping[str, Any] | None = None


PolicyFactory = Callable[[int, int], Policy]  # (observation_size, action_size) -> Policy


def initial_state(policy: Any, key: Array) -> PolicyState:
    """The memory at the start of the episode of this key, of whatever has an `initial_state`."""
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


def _network(make_module: Callable[..., Any], output: Output, memory: Any = None) -> PolicyFactory:
    """See `flax`; nothing is checked."""

    def build(observation_size: int, action_size: int) -> Policy:
        init, apply = _functions(make_module, action_size)
        no_observation = jnp.zeros(observation_size)

        def act(params: Params, policy_state: PolicyState, observation: Array) -> tuple:
            return OUTPUTS[output](apply(params, observation)), policy_state

        def act_with_memory(params: Params, policy_state: PolicyState, observation: Array) -> tuple:
            policy_state, action = apply(params, policy_state, observation)
            return OUTPUTS[output](action), policy_state

        if memory is None:
            return Policy(lambda key: init(key, no_observation), (), act)

        def init_with_memory(key: Array) -> Params:
            return init(key, memory(key) if callable(memory) else memory, no_observation)

        return Policy(init_with_memory, memory, act_with_memory)

    return build


def _functions(make_module: Callable[..., Any], action_size: int) -> tuple[Callable, Callable]:
    """A module as `init: (key, *inputs) -> params` and `apply: (params, *inputs) -> outputs`."""
    makes = make_module.__init__ if isinstance(make_module, type) else make_module  # type: ignore
    draws = "rngs" in inspect.signature(makes).parameters
    module = None if draws else make_module(action_size)
    if isinstance(module, nn.Module):
        return module.init, module.apply
    from flax import nnx  # no linen module needs its import

    def split(key: Array) -> Any:
        made = make_module(action_size, rngs=nnx.Rngs(key)) if draws else make_module(action_size)
        allowed = "a function to a module of flax, linen or nnx"
        check("make_module", made, isinstance(made, nnx.Module), allowed)
        return nnx.split(made, nnx.Param, ...)

    graph, _, constants = split(jax.random.key(0))
    return (
        lambda key, *inputs: split(key)[1],
        lambda params, *inputs: nnx.merge(graph, params, constants)(*inputs),
    )


@recorded()
def flax(
    make_module: Callable[..., Any], initial_state: Any = None, output: Output = "tanh"
) -> PolicyFactory:
    """Any flax module as a policy, of linen or nnx.

    Args:
      make_module: `(action_size) -> module`. Without a memory the module maps an observation [O] to
        an action [A]; with one, `(memory, observation) -> (memory, action)`, as linen's cells do. A
        function `(action_size, rngs)` makes nnx modules from the `nnx.Rngs` of the run; another
        one gives the same initial parameters to all seeds. What in an nnx module is no `nnx.Param`
        stays as it is.
      initial_state: the memory at the start of an episode: a pytree of arrays, or a function of a
        key (see `Policy`); None for no memory.
      output: how actions are kept in [-1, 1]: `tanh`, `clip`, or `none`.

    Raises:
      ValueError: `make_module` is no function, or its result is no module; an unknown name.

    Example:
      >>> policy = jaxes.policies.flax(lambda action_size: flax.linen.Dense(action_size))
    """
    check("make_module", make_module, callable(make_module), "a function (action_size) -> module")
    check_name("output", output, get_args(Output))
    return _network(make_module, output, initial_state)


def make_policy(
    factory: PolicyFactory, observation_size: int, num_outputs: int
) -> tuple[Policy, Any]:
    """The policy for so many observations and outputs, and the shapes of its parameters, after a
    look at what its functions return. Nothing is computed.

    Raises:
      ValueError: the factory or one of these fails, or returns something else than `Policy` says.
    """
    module = hasattr(factory, "init")
    hint = " (a module of flax becomes one by jaxes.policies.flax)" if module else ""
    sizes = f"{observation_size} observations, {num_outputs} outputs"
    with failing(f"policy fails with {sizes}{hint}", unless=_names_a_field):
        policy = factory(observation_size, num_outputs)
    check("policy", policy, isinstance(policy, Policy), "a function to a jaxes.policies.Policy")

    params = check_policy(policy, observation_size, num_outputs)
    leaves = jax.tree.leaves(params)
    floats = len(leaves) > 0 and all(map(is_array, leaves))
    check("policy.init", show(params), floats, "a function to parameters, arrays of floats")
    return policy, params


def check_policy(
    policy: Policy, observation_size: int, num_outputs: int, what: str = "policy fails"
) -> Params:
    """The shapes of a policy's parameters, after a look at what its functions return. Nothing is
    computed.

    Raises:
      ValueError: one of them fails, which messages begin with `what`, or returns something else
        than `Policy` says.
    """

    def step(key: Array, observation: Array) -> tuple:
        params, memory = policy.init(key), initial_state(policy, key)
        return params, memory, policy.apply(params, memory, observation)

    observation = jax.ShapeDtypeStruct((observation_size,), jnp.float32)
    with failing(what, unless=_names_a_field):
        params, before, applied = jax.eval_shape(step, jax.random.key(0), observation)
    pair = isinstance(applied, tuple) and len(applied) == 2
    check("policy.apply", show(applied), pair, "a function to (outputs [A], policy_state)")
    outputs, after = applied
    ok = is_array(outputs) and outputs.shape == (num_outputs,)
    check("policy", show(outputs), ok, f"of {num_outputs} outputs, floats of shape [{num_outputs}]")
    same = kinds(before) == kinds(after)
    check("policy's memory", show(after), same, f"like its initial_state, {show(before)}")
    return params


def _names_a_field(error: Exception) -> bool:
    return isinstance(error, ValueError) and str(error).startswith(("policy", "make_module"))


@recorded()
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

    return _network(network, output)


@recorded()
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

    return _network(network, output)


@recorded()
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

    memory = np.zeros(hidden_size, np.float32)
    return _network(partial(_GRU, hidden_size), output, memory)


POLICIES: dict[str, Callable[..., PolicyFactory]] = {"mlp": mlp, "linear": linear, "gru": gru}
