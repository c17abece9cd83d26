"""Action selection by evolution: a strategy searches the sequence of the next H actions.

A plan is a point of a search like any other: a vector `[H · A]`, asked for and told by the same
strategies that search policies. In every step of an episode the search begins where the last one
ended, one step on, advances a few generations, and the first action is done (model-predictive
control).

    H  steps of a plan (its horizon)     P  particles, copies of a plan in a model
    A  numbers of an action              O  numbers of an observation

Reference: Chua et al., Deep reinforcement learning in a handful of trials using probabilistic
dynamics models (NeurIPS 2018), algorithm 1; Pinneri et al. (CoRL 2020), algorithm 1.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import MAX_COUNT, check, check_count, check_name, failing, kinds, show
from jaxes.core import Strategy
from jaxes.planning.models import Imagined, Model, ModelState
from jaxes.planning.noise import Coloring, Noise, check_noise
from jaxes.planning.objectives import Moment, Objective, sum_of_rewards
from jaxes.search import Search, SearchState, advance, begin
from jaxes.specs import of_planner, recorded
from jaxes.weights import is_informative

WarmStart = Literal["shift", "none"]
Execute = Literal["best", "mean"]


class Planner(NamedTuple):
    """How actions are chosen, whatever the model: see `planner`."""

    strategy: Strategy
    horizon: int
    iterations: int
    noise: Noise
    beta: float
    warm_start: WarmStart
    execute: Execute | None
    objective: Objective
    spec: Mapping[str, Any] | None = None

    def with_model(self, model: Model) -> "Agent":
        """What acts with that model.

        Raises:
          ValueError: the model fails, or returns something else than `Model` says; the objective
            does not fit its observations.
        """
        return _agent(self, model)


class PlannerState(NamedTuple):
    """What a planner keeps between two steps of an episode.

    Attributes:
      mean: `[H, A]`, the plan with which the next search begins.
      step: int32 `[]`, steps of the episode so far.
      left: int32 `[]`, steps that it still has at most.
    """

    mean: Array
    step: Array
    left: Array


class PlanInfo(NamedTuple):
    """What a search came to.

    Attributes:
      value: `[]`, the best that the objective said of a plan; -inf where it was never a number.
      plan: `[H, A]`, whose first action is done.
      model: what the model reports of this plan, by name.
    """

    value: Array
    plan: Array
    model: dict[str, Array]


class Agent(NamedTuple):
    """A planner with its model: pure functions, to be jitted, vmapped over episodes, scanned over
    time.

    Attributes:
      init: `(episode_length=None, mean [H, A]=None) -> planner_state` at the start of an episode.
      plan: `(key, model_state, state, planner_state) -> (action [A], planner_state, info)`, where
        `state` is one of the model (`Model.start`).
      planner: its planner.
      model: its model.
    """

    init: Callable[..., PlannerState]
    plan: Callable[
        [Array, ModelState, Imagined, PlannerState], tuple[Array, PlannerState, PlanInfo]
    ]
    planner: Planner
    model: Model


@recorded(of_planner)
def planner(
    strategy: Strategy,
    *,
    horizon: int,
    iterations: int = 3,
    noise: Noise = "colored",
    beta: float = 2.0,
    warm_start: WarmStart = "shift",
    execute: Execute | None = None,
    objective: Objective = sum_of_rewards(),  # noqa: B008
) -> Planner:
    """A planner by any strategy.

    Each search samples as its strategy does, z ~ N(μ, Σ) from Σ = σ² I, and acts with L z, clipped
    to [-1, 1] in the model: the strategy's `sigma` is the standard deviation of an action, as a
    part of half its range.

    Args:
      strategy: what searches, anew in each step; its population N is sequences a generation.
      horizon: H, steps ahead.
      iterations: generations of a search.
      noise: `colored` along time, or `white`.
      beta: β in [0, 6], the power of colored noise falls as 1/f^β; greater is smoother.
      warm_start: begin with the last mean, one step on, its last action repeated (`shift`), or with
        zeros (`none`).
      execute: the first action of the best sequence that was evaluated (`best`), or of the search's
        mean, which an error of the model misleads less (`mean`); None is `best` with a true model
        and `mean` with one that learns.
      objective: what a sequence is good for: `sum_of_rewards()`, `reach(target)`, or your own.

    Raises:
      ValueError: a value outside its range.

    Example:
      >>> planner = jaxes.planning.planner(jaxes.cem(40, sigma=0.5), horizon=30)
      >>> result = jaxes.control(environment, planner, jaxes.planning.true_model(environment))
    """
    check("strategy", strategy, isinstance(strategy, Strategy), "a Strategy, as jaxes.cem(64) is")
    check_count("horizon", horizon)
    check_count("iterations", iterations)
    check_noise(noise, beta)
    check_name("warm_start", warm_start, get_args(WarmStart))
    if execute is not None:
        check_name("execute", execute, get_args(Execute))
    given = isinstance(objective, Objective)
    check("objective", objective, given, "an Objective, as jaxes.planning.reach(...) is")
    return Planner(
        strategy, horizon, iterations, noise, float(beta), warm_start, execute, objective
    )


def _agent(planner: Planner, model: Model) -> Agent:
    check("model", model, isinstance(model, Model), "a Model, as jaxes.planning.true_model(...) is")
    planner.objective.check(model.observation_size)
    shape = (planner.horizon, model.action_size)
    coloring = Coloring(planner.noise, planner.beta, planner.horizon)
    execute = planner.execute or ("best" if model.fit is None else "mean")

    def init(episode_length: int | Array | None = None, mean: Array | None = None) -> PlannerState:
        mean = jnp.zeros(shape) if mean is None else jnp.asarray(mean, jnp.float32)
        check("mean", list(mean.shape), mean.shape == shape, f"of shape {list(shape)}")
        left = MAX_COUNT if episode_length is None else episode_length
        return PlannerState(mean, jnp.zeros((), jnp.int32), jnp.asarray(left, jnp.int32))

    def plan(
        key: Array, model_state: ModelState, state: Imagined, planner_state: PlannerState
    ) -> tuple[Array, PlannerState, PlanInfo]:
        _check_step(model, model_state, state)
        members = model.particles(model_state)
        mean, begun, left = planner_state
        ahead = jnp.arange(1, planner.horizon + 1, dtype=jnp.int32)

        def imagine(key: Array, z: Array) -> tuple[Array, Imagined]:
            """What the plan of z is worth to each particle [P], and where it ends there. All plans
            of a generation meet the same noise."""
            actions = jnp.clip(coloring.plan(z, model.action_size), -1, 1)
            keys = jax.random.split(key, (model.num_particles, planner.horizon))

            def of_particle(member: Any, keys: Array) -> tuple[Array, Imagined]:
                times = (actions, keys, begun + ahead, ahead)
                return folded(model, planner.objective, member, state, times, left)

            return jax.vmap(of_particle, axis_size=model.num_particles)(members, keys)

        def generation(search: SearchState, key: Array) -> tuple[SearchState, Array]:
            search_key, noise_key = jax.random.split(key)

            def value(z: Array) -> Array:
                return jnp.mean(imagine(noise_key, z)[0])

            whole = Search(planner.strategy, value, chunk_size=planner.strategy.population_size)
            search, values = advance(whole, search_key, search)
            return search, is_informative(values)

        report_key, *keys = jax.random.split(key, planner.iterations + 1)
        search = begin(Search(planner.strategy, lambda z: z[0]), coloring.solution(mean))
        search, informative = jax.lax.scan(generation, search, jnp.stack(keys))

        mean = coloring.plan(search.strategy.mean, model.action_size)
        z = search.strategy.mean
        if execute == "best":  # of sequences that are all alike none is
            z = jnp.where(jnp.any(informative), search.best, z)
        chosen = jnp.clip(coloring.plan(z, model.action_size), -1, 1)
        report: dict[str, Array] = {}
        if model.report is not None:
            report = jax.tree.map(jnp.mean, jax.vmap(model.report)(imagine(report_key, z)[1]))
        # Beyond the bounds nothing pulls a mean back: it would walk away, step by step.
        shifted = jnp.clip(jnp.concatenate([mean[1:], mean[-1:]]), -1, 1)
        after = PlannerState(
            mean=shifted if planner.warm_start == "shift" else jnp.zeros_like(mean),
            step=begun + 1,
            left=left - 1,
        )
        return chosen[0], after, PlanInfo(search.best_fitness, chosen, report)

    return Agent(init, plan, planner, model)


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
        state, observation, reward, done = model.step(member, state, action, key)
        over = last.over | last.done
        moment = Moment(
            observation=jnp.where(over, last.observation, observation),
            reward=reward,
            done=done | over,
            over=over,
            beyond=ahead > left,
            step=steps,
            ahead=ahead,
        )
        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(observation))
        sound &= finite | over | moment.beyond
        return (state, moment, sound, objective.update(total, moment)), None

    no, none = jnp.bool_(False), jnp.zeros((), jnp.int32)
    observation = jnp.zeros(model.observation_size)
    start = Moment(observation, jnp.zeros(()), no, no, no, none, none)
    init = jax.tree.map(jnp.asarray, objective.init)
    (state, last, sound, total), _ = jax.lax.scan(
        step, (state, start, jnp.bool_(True), init), times
    )
    value = objective.value(total, last)
    return jnp.where(sound & jnp.isfinite(value), value, jnp.nan), state


def _check_step(model: Model, model_state: ModelState, state: Imagined) -> None:
    """Raises a ValueError unless the model's step returns what `Model` says, by its shapes."""

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
