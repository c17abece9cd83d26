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

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.checks import MAX_COUNT, check, check_count, check_name
from jaxes.core import Strategy
from jaxes.planning.imagine import check_step, folded
from jaxes.planning.models import Imagined, Model, ModelState
from jaxes.planning.noise import Coloring, Noise, check_noise
from jaxes.planning.objectives import Objective, check_objective, sum_of_rewards
from jaxes.search import Search, SearchState, advance, begin
from jaxes.specs import of_planner, recorded

MAX_HORIZON = 10_000  # the map of colored noise has its square

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
      value: `[]`, the best that the objective said of a sequence; -inf where it was never a number.
        Where the mean is executed, that is another sequence.
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
      beta: β ≥ 0, the power of colored noise falls as 1/f^β; greater is smoother, and less is
        possible where the horizon is long (see `jaxes.planning.noise`).
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
    check_count("horizon", horizon, maximum=MAX_HORIZON)
    check_count("iterations", iterations)
    check_noise(noise, beta, horizon)
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
    check_count("model.num_particles", model.num_particles)
    check_objective(planner.objective, model.observation_size)
    search = _PlanSearch(
        planner=planner,
        model=model,
        coloring=Coloring(planner.noise, planner.beta, planner.horizon),
        execute=planner.execute or ("best" if model.fit is None else "mean"),
    )
    # An episode's program mentions a plan several times: jit traces it once.
    return Agent(search.init, jax.jit(search.plan, inline=True), planner, model)


@dataclasses.dataclass(frozen=True)
class _PlanSearch:
    """What is static of an agent, and what a step of an episode does with it."""

    planner: Planner
    model: Model
    coloring: Coloring
    execute: Execute

    def init(
        self, episode_length: int | Array | None = None, mean: Array | None = None
    ) -> PlannerState:
        shape = (self.planner.horizon, self.model.action_size)
        mean = jnp.zeros(shape) if mean is None else jnp.asarray(mean, jnp.float32)
        check("mean", list(mean.shape), mean.shape == shape, f"of shape {list(shape)}")
        mean = jnp.where(jnp.isfinite(mean), mean, 0.0)
        left = MAX_COUNT if episode_length is None else episode_length
        if not isinstance(left, Array):
            check_count("episode_length", left, minimum=0)
        return PlannerState(mean, jnp.zeros((), jnp.int32), jnp.asarray(left, jnp.int32))

    def plan(
        self, key: Array, model_state: ModelState, state: Imagined, before: PlannerState
    ) -> tuple[Array, PlannerState, PlanInfo]:
        check_step(self.model, model_state, state)
        members = self.model.particles(model_state)

        def imagine(key: Array, z: Array) -> tuple[Array, Imagined]:
            return self.imagine(members, state, before, key, z)

        report_key, *keys = jax.random.split(key, self.planner.iterations + 1)
        search = begin(Search(self.planner.strategy, _any), self.coloring.solution(before.mean))
        generation = partial(self.generation, imagine)
        search, _ = jax.lax.scan(generation, search, jnp.stack(keys))

        mean = self.coloring.plan(search.strategy.mean, self.model.action_size)
        z = search.best if self.execute == "best" else search.strategy.mean
        chosen = jnp.clip(self.coloring.plan(z, self.model.action_size), -1, 1)
        report: dict[str, Array] = {}
        if self.model.report is not None:
            ends = imagine(report_key, z)[1]
            report = jax.tree.map(jnp.mean, jax.vmap(self.model.report)(ends))
        # Beyond the bounds nothing pulls a mean back: it would walk away, step by step.
        shifted = jnp.clip(jnp.concatenate([mean[1:], mean[-1:]]), -1, 1)
        after = PlannerState(
            mean=shifted if self.planner.warm_start == "shift" else jnp.zeros_like(mean),
            step=before.step + 1,
            left=before.left - 1,
        )
        return chosen[0], after, PlanInfo(search.best_fitness, chosen, report)

    def generation(
        self, imagine: Callable, search: SearchState, key: Array
    ) -> tuple[SearchState, None]:
        """One more of a search. The mean is evaluated beside the sequences, and is the best where
        they are worth no more: of plans that all keep a pole up, the calmest."""
        search_key, noise_key = jax.random.split(key)
        if self.model.noisy:  # the best of luckier noise is not better
            search = search._replace(best_fitness=jnp.full_like(search.best_fitness, -jnp.inf))

        def value(z: Array) -> Array:
            return jnp.mean(imagine(noise_key, z)[0])

        strategy = self.planner.strategy
        whole = Search(strategy, value, hold=True)
        return advance(whole, search_key, search, search.strategy.mean[None])[0], None

    def imagine(
        self, members: Any, state: Imagined, before: PlannerState, key: Array, z: Array
    ) -> tuple[Array, Imagined]:
        """What the plan of z is worth to each particle [P], and where it ends there. All plans of
        a generation meet the same noise (common random numbers)."""
        actions = jnp.clip(self.coloring.plan(z, self.model.action_size), -1, 1)
        count, horizon = self.model.num_particles, self.planner.horizon
        ahead = jnp.arange(1, horizon + 1, dtype=jnp.int32)

        def of_particle(member: Any, keys: Array) -> tuple[Array, Imagined]:
            times = (actions, keys, before.step + ahead, ahead)
            return folded(self.model, self.planner.objective, member, state, times, before.left)

        keys = jax.random.split(key, (count, horizon))
        return jax.vmap(of_particle, axis_size=count)(members, keys)


def _any(z: Array) -> Array:
    return z[0]
