"""What an environment is: two pure functions, into which any physics fits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxes.checks import check, check_count, check_positive, failing, hashes, is_number, kinds, show
from jaxes.specs import spec_of, with_spec

EnvState = Any
# What tests of episodes tell anyway: no names of measures.
RESERVED = {"return_mean", "return_std", "diverged", "episode_length", "alive_share"}
RESERVED |= {"worst_task", "task_spread"}


class Environment(NamedTuple):
    """One episode's physics, pure and for a single episode; the engine batches it.

    Attributes:
      reset: `(key) -> (env_state, observation [O])`; an observation of other numbers, in a pytree
        or an array of any shape, is flattened and cast to float32.
      step: `(env_state, action) -> (env_state, observation [O], reward [], done bool [])`. The
        action is `[A]`, a policy's outputs; where `num_actions` is given, the int32 index [] of the
        greatest of so many outputs.
      action_size: A, the numbers of a continuous action.
      name: what error messages call it.
      num_actions: how many discrete actions there are, in place of `action_size`.
      measure: `(env_state) -> {name: number []}`, what else is told of test episodes: of their last
        state, such as a distance covered, or
      summed: over their steps, if it is named here. `alive_reward`, the part of the reward that
        being alive gives, is told as a share of the return.
      with_key: `(env_state, key) -> env_state`, the same state whose further noise is drawn from
        this key; given where the state holds a key. A planner replaces it, so as not to foresee
        the noise.
      reward_fn: `(observation [O], action, next_observation [O]) -> reward []`, given where the
        reward is a function of what is seen: who learns the physics need not learn it. The
        observations are those that `step` returns, as a vector where they are none; the action is
        the one that `step` is given.
      done_fn: `(next_observation [O]) -> done bool []`, likewise whether the episode ends there. An
        end that is not seen, such as a time limit, is left to `step`.
      dt: seconds that a step takes in the world; None where that is not known.
      render: `(env_states, width, height) -> frames`, uint8 `[T, H, W, 3]`: pictures of T states,
        which are stacked over time on the host; None where it cannot be drawn.
      system: what is the same in all its states, such as masses, lengths and gravity: a pytree of
        numbers; given where there may be environments that differ in it alone, with
      with_system: `(system) -> Environment`, the same environment with another system, whose
        numbers may be traced. Whoever replaces another function here replaces this one too.
      randomize: what a search draws for each episode, put there by `jaxes.randomize.randomized`;
        None: all have `system`, as `reset` and `step` have it anyway.
      test_randomize: likewise, for tests that are told apart from others.
      spec: what a config says of it, or None (see `jaxes.specs`).
    """

    reset: Callable[[Array], tuple[EnvState, Array]]
    step: Callable[[EnvState, Array], tuple[EnvState, Array, Array, Array]]
    action_size: int | None = None
    name: str = "environment"
    num_actions: int | None = None
    measure: Callable[[EnvState], Mapping[str, Array]] | None = None
    summed: tuple[str, ...] = ()
    with_key: Callable[[EnvState, Array], EnvState] | None = None
    reward_fn: Callable[[Array, Array, Array], Array] | None = None
    done_fn: Callable[[Array], Array] | None = None
    dt: float | None = None
    render: Callable[[EnvState, int, int], np.ndarray] | None = None
    system: Any = None
    with_system: Callable[[Any], "Environment"] | None = None
    randomize: Any = None
    test_randomize: Any = None
    spec: Mapping[str, Any] | None = None

    def __hash__(self) -> int:
        return hash(tuple(self._replace(system=None)))  # whose arrays do not

    @property
    def num_outputs(self) -> int:
        """How many outputs a policy has here."""
        return self.action_size or self.num_actions or 0

    def action(self, outputs: Array) -> Array:
        """What `step` is given for a policy's outputs."""
        return outputs if self.num_actions is None else greatest(outputs)


@dataclasses.dataclass(frozen=True)
class WithSystem:
    """`Environment.with_system` as `make(system)`; equal where made of the same, as environments
    are that differ in numbers of their system alone."""

    made_of: Any
    make: Callable[[Any], Environment] = dataclasses.field(compare=False)

    def __call__(self, system: Any) -> Environment:
        return self.make(system)


def greatest(outputs: Array) -> Array:
    """The discrete action that a policy's outputs choose, int32 []."""
    return jnp.argmax(outputs).astype(jnp.int32)


def flat(observation: Any) -> Array:
    """A pytree of numbers of any kind as one vector of float32, in the order of its leaves."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(observation)]
    return jnp.concatenate(leaves)


def shapes_of_reset(reset: Callable[[Array], tuple[EnvState, Array]]) -> tuple[EnvState, Any]:
    """What it returns, as shapes and dtypes; traced once, for physics takes a second."""
    find = _shapes_of_reset if hashes(reset) else _shapes_of_reset.__wrapped__
    return find(reset, bool(jax.config.read("jax_enable_x64")))


@functools.lru_cache(maxsize=16)
def _shapes_of_reset(reset: Callable, wide: bool) -> Any:
    return jax.eval_shape(reset, jax.random.key(0))


def tidied(environment: Environment) -> Environment:
    """The same physics with one vector of floats as observation, a float as reward and a bool as
    done, whatever numbers they are: a dict, an image, integers, 0.0 and 1.0 for `done`. It is the
    environment itself where it is tidy.

    `reward_fn` and `done_fn` are given that vector before and after; what they return is made a
    float and a bool too.
    """
    env_state, observation = shapes_of_reset(environment.reset)
    outputs = jnp.zeros(environment.num_outputs)
    action = jax.eval_shape(environment.action, outputs)
    *_, reward, done = jax.eval_shape(environment.step, env_state, action)
    rewards, ends = [reward], [done]
    seen = jax.eval_shape(_as_vector, observation)
    if environment.reward_fn is not None:
        rewards.append(jax.eval_shape(environment.reward_fn, seen, action, seen))
    if environment.done_fn is not None:
        ends.append(jax.eval_shape(environment.done_fn, seen))
    floats = all(jnp.issubdtype(each.dtype, jnp.floating) for each in rewards)
    if _is_vector(observation) and floats and all(each.dtype == bool for each in ends):
        return environment
    return _tidied(environment)


def _tidied(environment: Environment) -> Environment:
    def reset(key: Array) -> tuple[EnvState, Array]:
        env_state, observation = environment.reset(key)
        return env_state, _as_vector(observation)

    def step(env_state: EnvState, action: Array) -> tuple[EnvState, Array, Array, Array]:
        env_state, observation, reward, done = environment.step(env_state, action)
        return env_state, _as_vector(observation), _as_float(reward), _as_bool(done)

    tidy = environment._replace(
        reset=reset,
        step=step,
        reward_fn=_then(environment.reward_fn, _as_float),
        done_fn=_then(environment.done_fn, _as_bool),
        with_system=_then(environment.with_system, _tidied),
    )
    return with_spec(tidy, spec_of(environment))


def _is_vector(observation: Any) -> bool:
    if not jax.tree_util.all_leaves([observation]) or np.ndim(observation) != 1:
        return False
    return jnp.issubdtype(observation.dtype, jnp.floating)


def _as_vector(observation: Any) -> Array:
    return observation if _is_vector(observation) else flat(observation)


def _as_float(reward: Any) -> Array:
    reward = jnp.asarray(reward)
    floating = jnp.issubdtype(reward.dtype, jnp.floating)
    return reward if floating else reward.astype(jnp.float32)


def _as_bool(done: Any) -> Array:
    return jnp.asarray(done).astype(bool)


@dataclasses.dataclass(frozen=True)
class _Then:
    """What `convert` makes of what `fn` returns; equal where both are: two tasks may have one."""

    fn: Callable
    convert: Callable[[Any], Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.convert(self.fn(*arguments))


def _then(fn: Callable | None, convert: Callable[[Any], Any]) -> Callable | None:
    return fn and _Then(fn, convert)


def observation_size(environment: Environment) -> int:
    """O, after a look at what the environment's functions return. Nothing is computed.

    Raises:
      ValueError: not one of `action_size` and `num_actions` is given, `reset` or `step` fails, or
        returns something else than `Environment` says, and `tidied` cannot mend it.
    """
    check("environment", environment, isinstance(environment, Environment), "an Environment")
    name = environment.name
    _check_actions(environment)
    with failing(f"{name}: reset(key) fails"):
        start = shapes_of_reset(environment.reset)
    _check_parts(f"{name}: reset(key)", start, "(env_state, observation)")
    env_state, observation = start
    leaves = jax.tree.leaves(observation)
    numbers = all(map(is_number, leaves)) and sum(map(np.size, leaves)) > 0
    check(f"{name}: reset's observation", show(observation), numbers, "numbers, [O] floats at best")

    outputs = jax.ShapeDtypeStruct((environment.num_outputs,), jnp.float32)
    action = jax.eval_shape(environment.action, outputs)
    after = _trace(f"{name}: step(env_state, action)", environment.step, env_state, action)
    _check_parts(f"{name}: step", after, "(env_state, observation, reward, done)")
    new_state, new_observation, reward, done = after
    for part, before, now in [
        ("env_state", env_state, new_state),
        ("observation", observation, new_observation),
    ]:
        same = kinds(before) == kinds(now)
        check(f"{name}: step's {part}", show(now), same, f"like reset's, {show(before)}")
    for part, value, allowed in (("reward", reward, "a float"), ("done", done, "a bool")):
        _check_one_number(f"{name}: step's {part}", value, allowed)
    _check_optional(environment, env_state, jax.eval_shape(_as_vector, observation), action)
    if environment.measure is not None:
        found = _trace(f"{name}: measure(env_state)", environment.measure, new_state)
        numbers = isinstance(found, Mapping) and all(
            isinstance(key, str) and is_number(value) and np.shape(value) == ()
            for key, value in found.items()
        )
        check(f"{name}: measure", show(found), numbers, "a function to {name: number []}")
        free = ", ".join(sorted(RESERVED))
        check(f"{name}: measure", list(found), not RESERVED & found.keys(), f"of names but {free}")
    summed = environment.summed
    strings = isinstance(summed, tuple) and all(isinstance(each, str) for each in summed)
    check(f"{name}: summed", summed, strings, "a tuple of names of what measure tells")
    told = found.keys() if environment.measure is not None else set()
    # Of Brax's, one knows what they tell when they run.
    known = set(summed) <= told or getattr(environment.measure, "may_lack", False)
    check(f"{name}: summed", summed, known, f"of names of what measure tells, {sorted(told)}")
    return sum(map(np.size, leaves))


def _check_actions(environment: Environment) -> None:
    given = {"action_size": environment.action_size, "num_actions": environment.num_actions}
    counts = {field: count for field, count in given.items() if count is not None}
    fields = f"{environment.name}: action_size or num_actions"
    check(fields, given, len(counts) == 1, "given, one of them")
    for field, count in counts.items():
        check_count(f"{environment.name}: {field}", count)


def _check_optional(environment: Environment, env_state: Any, seen: Any, action: Any) -> None:
    """Of the functions that may be left out those that are there; `seen` is an observation."""
    if environment.with_key is not None:
        what = f"{environment.name}: with_key(env_state, key)"
        now = _trace(what, environment.with_key, env_state, jax.random.key(0))
        same = kinds(env_state) == kinds(now)
        check(what, show(now), same, f"a state like reset's, {show(env_state)}")
    if environment.reward_fn is not None:
        what = f"{environment.name}: reward_fn(observation, action, next_observation)"
        value = _trace(what, environment.reward_fn, seen, action, seen)
        _check_one_number(what, value, "a float")
    if environment.done_fn is not None:
        what = f"{environment.name}: done_fn(next_observation)"
        _check_one_number(what, _trace(what, environment.done_fn, seen), "a bool")
    if environment.dt is not None:
        check_positive(f"{environment.name}: dt", environment.dt)
    draws = environment.render is None or callable(environment.render)
    check(f"{environment.name}: render", environment.render, draws, "a function or None")


def is_made_by_its_system(environment: Environment) -> bool:
    """Whether `with_system` makes environments like this one: with functions of the same code,
    which one that was replaced here alone has not.

    Raises:
      ValueError: `with_system` fails, or returns something else.
    """
    if environment.with_system is None:
        return False
    what = f"{environment.name}: with_system(system)"
    with failing(f"{what} fails"):
        made = environment.with_system(environment.system)
    check(what, made, isinstance(made, Environment), "a function to an Environment")
    fields = ("reset", "step", "measure")
    return all(_code(getattr(made, x)) is _code(getattr(environment, x)) for x in fields)


def _code(fn: Any) -> Any:
    """What a function does, whatever it holds."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__code__", type(fn))


def _check_one_number(what: str, value: Any, allowed: str) -> None:
    check(what, show(value), is_number(value) and np.shape(value) == (), f"[], {allowed}")


def _trace(what: str, fn: Callable, *arguments: Any) -> Any:
    with failing(f"{what} fails"):
        return jax.eval_shape(fn, *arguments)


def _check_parts(what: str, value: Any, allowed: str) -> None:
    ok = isinstance(value, tuple) and len(value) == allowed.count(",") + 1
    check(what, show(value), ok, f"a tuple {allowed}")
