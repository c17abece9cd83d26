"""One particle's walk along a plan, in a model: what a sequence of actions comes to."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import check, failing, kinds, show
from jaxes.planning.models import Imagined, Model, ModelState
from jaxes.planning.objectives import Moment, Objective


def folded(
    model: Model,
    objective: Objective,
    member: Any,
    state: Imagined,
    times: tuple[Array, Array, Array, Array],
    left: Array,
) -> tuple[Array, Imagined]:
    """What the objective says of one particle's sequence, and where it ends.

    NaN where an observation or a reward left the finite numbers before the end: it ranks worst.

    Args:
      member: what the particle predicts with.
      state: where it begins.
      times: actions `[H, A]`, keys `[H]`, steps of the episode int32 `[H]`, of the plan `[H]`.
      left: int32 `[]`, how many steps the episode has.
    """

    def step(carry: tuple, time: tuple) -> tuple[tuple, None]:
        state, last, sound, total = carry
        action, key, steps, ahead = time
        after, observation, reward, done = model.step(member, state, action, key)
        over, beyond = last.over | last.done, ahead > left
        moment = Moment(
            observation=jnp.where(over, last.observation, observation),
            reward=reward,
            done=done | over | (ahead >= left),
            over=over,
            beyond=beyond,
            step=steps,
            ahead=ahead,
        )
        if model.report is not None:  # of the episode, not of what the model makes of its end
            after = jax.tree.map(partial(jnp.where, over | beyond), state, after)
        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
        sound &= finite | over | beyond
        return (after, moment, sound, objective.update(total, moment)), None

    no, none = jnp.bool_(False), jnp.zeros((), jnp.int32)
    observation = jnp.zeros(model.observation_size)
    start = Moment(observation, jnp.zeros(()), no, no, no, none, none)
    init = jax.tree.map(jnp.asarray, objective.init)
    (state, last, sound, total), _ = jax.lax.scan(
        step, (state, start, jnp.bool_(True), init), times
    )
    value = objective.value(total, last)
    return jnp.where(sound & jnp.isfinite(value), value, jnp.nan), state


def check_step(model: Model, model_state: ModelState, state: Imagined) -> None:
    """Raises a ValueError unless the model's step returns what `Model` says, by its shapes."""

    with failing("model.particles fails"):
        members = jax.eval_shape(model.particles, model_state)
    count = model.num_particles
    rows = all(leaf.shape[:1] == (count,) for leaf in jax.tree.leaves(members))
    check("model.particles", show(members), rows, f"a function to arrays of {count} rows")

    def step(model_state: ModelState, state: Imagined, action: Array, key: Array) -> tuple:
        member = jax.tree.map(lambda leaf: leaf[0], model.particles(model_state))
        return model.step(member, state, action, key)

    action = jax.ShapeDtypeStruct((model.action_size,), jnp.float32)
    with failing("model.step fails"):
        found = jax.eval_shape(step, model_state, state, action, jax.random.key(0))
    parts = isinstance(found, tuple) and len(found) == 4
    check("model.step", show(found), parts, "a function to (state, observation, reward, done)")
    after, observation, reward, done = found
    same = kinds(after) == kinds(state)
    check("model.step's state", show(after), same, f"like the one it is given, {show(state)}")
    seen, size = kinds(observation)[1], model.observation_size
    vector = seen == [((size,), jnp.float32)]
    check("model.step's observation", show(observation), vector, f"float32 [{size}]")
    for name, value, dtype in (("reward", reward, jnp.float32), ("done", done, jnp.bool_)):
        ok = kinds(value)[1] == [((), dtype)]
        check(f"model.step's {name}", show(value), ok, f"{jnp.dtype(dtype)}[]")
    if model.report is None:
        return
    with failing("model.report fails"):
        told = jax.eval_shape(model.report, after)
    scalars = isinstance(told, dict) and all(
        isinstance(name, str) and kinds(value)[1][0][0] == () for name, value in told.items()
    )
    check("model.report", show(told), scalars, "a function to {name: number []}")
