"""`jaxes.learn_to_control`: trials of a planner, whose model learns from them."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from jaxes import core, parallel
from jaxes.checks import check, check_count
from jaxes.core import TrainHParams
from jaxes.environments.base import Environment
from jaxes.planning.control import agent_in
from jaxes.planning.learn import Trials, standing
from jaxes.planning.models import Model
from jaxes.planning.planner import Planner
from jaxes.policies import Policy
from jaxes.specs import spec_of
from jaxes.training.batch import Batch, keys_of
from jaxes.training.directory import identity_of, without_none
from jaxes.training.loop import Callback
from jaxes.training.metrics import LoggerName, Row
from jaxes.training.run import Run, RunResult, Trial
from jaxes.training.schedule import Schedule
from jaxes.training.shell import check_settings, check_shell, run_alone

NESTED = ("strategy", "objective")  # sections within a config's `planner`


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
    capacity: int = 50_000,
    num_test_episodes: int = 10,
    seed: int = 0,
    policy: Policy | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int = 1,
    test_every: int = 1000,
    target_return: float | None = None,
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
      capacity: transitions that are kept to learn from; the oldest make way.
      num_test_episodes: fresh episodes in a test; nothing is learned from them.
      seed: of all randomness.
      policy: its actions are the mean of an episode's first search (see `jaxes.control`).
      run_dir: gets `metrics.jsonl` (one object a trial) and `checkpoints/`; None for none.
      resume: go on from the latest checkpoint in `run_dir`.
      checkpoint_every: trials between checkpoints; the last trial is saved as well.
      test_every: trials between tests; the last trial is tested as well.
      target_return: stop when a test's mean return reaches it.
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
        "loggers": loggers,
    }
    schedule = check_training(settings)
    if loggers and run_dir is None:
        raise ValueError(f"loggers must be empty without a run_dir, got {loggers!r}")
    check_shell(run_dir, resume, callback, console)
    allowed = "a Policy, as problem.policy(mean, problem_state) gives it"
    check("policy", policy, policy is None or isinstance(policy, Policy), allowed)
    trials = Trials(
        environment=environment,
        agent=agent_in(environment, planner, model),
        episode_length=episode_length,
        num_random_steps=num_random_steps,
        capacity=capacity,
        num_test_episodes=num_test_episodes,
        policy=policy,
    )
    numbers = Numbers(
        planner.horizon,
        planner.iterations,
        planner.beta,
        episode_length,
        num_random_steps,
        capacity,
    )
    if config is None and policy is None:
        config = _config_of(environment, planner, model, settings)
    hparams = TrainHParams(planner.strategy.hparams, numbers)
    trial = Trial(0, seed, {}, hparams, config)
    return run_alone(
        partial(_batch, trials),
        trial,
        identity_of(planner.strategy.population_size, trial),
        schedule,
        directory=None if run_dir is None else Path(run_dir),
        resume=resume,
        loggers=loggers,
        callback=callback,
        console=console,
        unit="trial",
    )


def check_training(settings: Mapping[str, Any]) -> Schedule:
    """The schedule, after a look at these arguments of `learn_to_control`.

    Raises:
      ValueError: one is outside its range.
    """
    for field in ("num_trials", "episode_length", "num_random_steps", "num_test_episodes"):
        check_count(field, settings[field])
    least = max(settings["episode_length"], settings["num_random_steps"])
    why = ", an episode's and the random steps'"
    check_count("capacity", settings["capacity"], minimum=least, why=why)
    schedule = Schedule.of({**settings, "num_generations": settings["num_trials"]})
    check_settings(schedule, settings["seed"], settings["loggers"])
    return schedule


def _batch(trials: Trials, run: Run, checkpoints: Path | None) -> Batch:
    """A run of trials, on one device: an episode's steps are one after another."""
    mesh = parallel.make_mesh(1)
    init_key, *keys = parallel.place(keys_of(run.trial.seed), mesh)
    state = jax.jit(trials.init)(init_key)
    step = core.with_run_key(trials.step)
    return Batch([run], step, tuple(keys), state, checkpoints, standing, _seconds_a_step)


def _seconds_a_step(row: Row) -> Row:
    return {"plan/seconds": row["time/seconds"] / max(row["rollout/env_steps"], 1)}


def _config_of(
    environment: Environment, planner: Planner, model: Model, training: dict[str, Any]
) -> dict[str, Any] | None:
    """The config that describes a run made in Python, if a config can."""
    parts = {"environment": environment, "planner": planner, "model": model}
    sections: dict[str, Any] = {section: spec_of(part) for section, part in parts.items()}
    if None in sections.values():
        return None
    inside = {field: without_none(dict(sections["planner"][field])) for field in NESTED}
    sections |= {"planner": sections["planner"] | inside, "training": training}
    return {name: without_none(dict(section)) for name, section in sections.items()}
