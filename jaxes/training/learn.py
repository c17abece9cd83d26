"""`jaxes.learn_to_control`: trials of a planner, whose model learns from them."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from jaxes import core, parallel
from jaxes.checks import check, check_count, check_seed
from jaxes.core import TrainHParams
from jaxes.environments.base import Environment
from jaxes.planning.control import agent_in, check_proposer
from jaxes.planning.learn import LearnState, Trials, check_fit, standing
from jaxes.planning.models import Model, ModelState
from jaxes.planning.planner import Planner
from jaxes.policies import Policy
from jaxes.specs import plain, spec_of
from jaxes.training.batch import Batch, keys_of
from jaxes.training.evaluate import Choice, restored, tested
from jaxes.training.identity import described, identity_of, plain_sections
from jaxes.training.loop import Callback
from jaxes.training.metrics import LoggerName, Row
from jaxes.training.run import Run, RunResult, Trial
from jaxes.training.schedule import Keep, Schedule
from jaxes.training.shell import check_settings, check_shell, run_alone


class Numbers(NamedTuple):
    """What of a run without a config must be the same when it is resumed."""

    horizon: int
    iterations: int
    beta: float
    episode_length: int
    num_random_steps: int
    capacity: int


def learn_to_control(
    environment: Environment,
    planner: Planner,
    model: Model,
    *,
    num_trials: int,
    episode_length: int = 1000,
    num_random_steps: int = 200,
    capacity: int = 20_000,
    num_test_episodes: int = 10,
    seed: int = 0,
    policy: Policy | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int = 1,
    test_every: int = 1000,
    target_return: float | None = None,
    keep_checkpoints: Keep = 2,
    loggers: tuple[LoggerName, ...] = (),
    callback: Callback | None = None,
    console: Console | None = None,
    config: Mapping[str, Any] | None = None,
) -> RunResult:
    """Trials of act, store, fit, and what they produce in `run_dir`, as `jaxes.train` has it.

    A model that learns first sees steps of random actions; then in each trial the planner acts for
    an episode, with nothing added to explore, and the model is fitted to all data. A trial is one
    program and one dispatch; of the true model it is an episode. The bits depend on `seed` and what
    is learned alone.

    Args:
      environment: where it acts.
      planner: how actions are chosen.
      model: of `jaxes.planning`, `ensemble_model(environment)` or `true_model(environment)`.
      num_trials: of the whole run, at least 1.
      episode_length: steps after which an episode is cut.
      num_random_steps: steps of random actions before the first trial.
      capacity: transitions that are kept to learn from, in each checkpoint as well; the oldest make
        way.
      num_test_episodes: fresh episodes in a test; nothing is learned from them.
      seed: of all randomness.
      policy: its actions are the mean of an episode's first search (see `jaxes.control`).
      run_dir: gets `metrics.jsonl` (one object a trial) and `checkpoints/`; None for none.
      resume: go on from the latest checkpoint in `run_dir`.
      checkpoint_every: trials between checkpoints; the last trial is saved as well.
      test_every: trials between tests; the last trial is tested as well.
      target_return: stop when a test's mean return reaches it.
      keep_checkpoints: a number, the last so many; `all`; or `best`, as in `jaxes.train`, for which
        each saved trial is tested.
      loggers: of `tensorboard`, `wandb`.
      callback: `(row, state) -> bool | None` after each chunk of trials; True ends the run.
      console: where progress is shown; None is silent.
      config: kept as `config.yaml` in a new run; by default what describes these arguments, where a
        config can.

    Returns:
      A `RunResult`, whose `state` is a `LearnState`: `state.model` is what `jaxes.control` takes as
      `model_state`. `zero_policy_return` is that of standing still.

    Raises:
      ValueError: a value outside its range, parts that do not fit each other, a `run_dir` that
        holds another run; before anything is compiled.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when a checkpoint has been saved.
    """
    settings = {
        "num_trials": num_trials,
        "episode_length": episode_length,
        "num_random_steps": num_random_steps,
        "capacity": capacity,
        "num_test_episodes": num_test_episodes,
        "seed": seed,
        "checkpoint_every": checkpoint_every,
        "test_every": test_every,
        "target_return": target_return,
        "keep_checkpoints": keep_checkpoints,
        "loggers": loggers,
    }
    check("model", model, isinstance(model, Model), "a Model, as true_model(...) is")
    schedule = check_training(settings, model)
    if loggers and run_dir is None:
        raise ValueError(f"loggers must be empty without a run_dir, got {loggers!r}")
    check_shell(run_dir, resume, callback, console)
    trials = _trials(environment, planner, model, settings, policy)
    check_proposer(policy, model)
    check_fit(model, capacity)
    described_by = _parts(environment, planner, model)
    if config is None and policy is None and None not in described_by.values():
        config = plain_sections({**described_by, "training": settings})
    hparams = TrainHParams(planner.strategy.hparams, _numbers(planner, settings))
    trial = Trial(0, seed, {}, hparams, config)
    return run_alone(
        partial(_batch, trials),
        trial,
        _identity(trial, planner, described_by),
        schedule,
        directory=None if run_dir is None else Path(run_dir),
        resume=resume,
        loggers=loggers,
        callback=callback,
        console=console,
        unit="trial",
    )


@jax.disable_jit(False)  # as in `train`
def evaluate_learned(
    environment: Environment,
    planner: Planner,
    model: Model,
    settings: Mapping[str, Any],
    run_dir: Path,
    *,
    num_episodes: int = 100,
    seed: int = 0,
    checkpoint: Choice = "latest",
) -> RunResult:
    """Tests the planner with what a checkpoint of a run has learned, as `jaxes.evaluate` does."""
    check_count("num_episodes", num_episodes)
    check_seed("seed", seed)
    trials = _trials(environment, planner, model, settings, None)
    return tested(
        run_dir,
        _template(trials),
        jax.jit(trials.tests),
        standing,
        TrainHParams(planner.strategy.hparams, _numbers(planner, settings)),
        num_episodes=num_episodes,
        seed=seed,
        checkpoint=checkpoint,
    )


def learned(
    environment: Environment,
    planner: Planner,
    model: Model,
    settings: Mapping[str, Any],
    run_dir: Path,
    checkpoint: Choice = "latest",
) -> ModelState:
    """What a checkpoint of a run has learned."""
    template = _template(_trials(environment, planner, model, settings, None))
    return restored(run_dir, template, checkpoint)[1].model


def check_training(settings: Mapping[str, Any], model: Model) -> Schedule:
    """The schedule, after a look at these arguments of `learn_to_control`.

    Raises:
      ValueError: one is outside its range.
    """
    for field in ("num_trials", "episode_length", "num_random_steps", "num_test_episodes"):
        check_count(field, settings[field])
    least = max(settings["episode_length"], settings["num_random_steps"])
    why = ", an episode's and the random steps'"
    minimum = 1 if model.fit is None else least
    check_count("capacity", settings["capacity"], minimum=minimum, why=why)
    schedule = Schedule.of({**settings, "num_generations": settings["num_trials"]})
    check_settings(schedule, settings["seed"], settings["loggers"])
    return schedule


def _identity(trial: Trial, planner: Planner, parts: dict[str, Any]) -> dict[str, Any]:
    """What must be the same when a run is resumed."""
    identity = identity_of(planner.strategy.population_size, trial)
    identity["training"] = identity.pop("problem")
    # What can be told of its parts, also where there is no config; looked at first.
    names = ("noise", "warm_start", "execute")
    of_planner = {name: getattr(planner, name) for name in names}
    of_planner["strategy"] = (spec_of(planner.strategy) or {}).get("name")
    of_planner["objective"] = spec_of(planner.objective)
    return {"parts": plain({**parts, "planner": of_planner}), **identity}


def _trials(
    environment: Environment,
    planner: Planner,
    model: Model,
    settings: Mapping[str, Any],
    policy: Policy | None,
) -> Trials:
    sizes = {name: settings[name] for name in Trials._fields if name in settings}
    agent = agent_in(environment, planner, model)
    return Trials(environment, agent, **sizes, policy=policy)


def _template(trials: Trials) -> LearnState:
    """A state like those that are saved."""
    return jax.tree.map(jnp.zeros_like, jax.eval_shape(trials.init, jax.random.key(0)))


def _numbers(planner: Planner, settings: Mapping[str, Any]) -> Numbers:
    sizes = {name: settings[name] for name in Numbers._fields if name in settings}
    return Numbers(planner.horizon, planner.iterations, planner.beta, **sizes)


def _batch(trials: Trials, run: Run, checkpoints: Path | None) -> Batch:
    """A run of trials, on one device: an episode's steps are one after another."""
    mesh = parallel.make_mesh(1)
    init_key, *keys = parallel.place(keys_of(run.trial.seed), mesh)
    state = jax.jit(trials.init)(init_key)
    step = core.with_run_key(trials.step)
    return Batch([run], step, tuple(keys), state, checkpoints, standing, _seconds_a_step)


def _seconds_a_step(row: Row) -> Row:
    """Nothing of a trial whose seconds hold a test."""
    tested = "test/return_mean" in row
    steps = row["rollout/env_steps"]
    return {} if tested or not steps else {"plan/seconds": row["time/seconds"] / steps}


def _parts(
    environment: Environment, planner: Planner, model: Model
) -> dict[str, dict[str, Any] | None]:
    """What a config says of each, None where it cannot."""
    of_planner = spec_of(planner)
    strategy = described(planner.strategy, planner.strategy.hparams)
    if of_planner is not None and strategy is not None:
        of_planner = {**of_planner, "strategy": strategy}
    found = {"environment": spec_of(environment), "planner": of_planner, "model": spec_of(model)}
    return {name: None if spec is None else dict(spec) for name, spec in found.items()}
