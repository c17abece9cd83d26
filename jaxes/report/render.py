"""Films of what runs have learned: an episode, or a game, as it is seen at true speed."""

import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from jaxes.checks import check, check_count, check_name, check_positive, check_seed, failing
from jaxes.config.files import config_of_run
from jaxes.config.plan import is_plan_run
from jaxes.config.plan import load as load_plan
from jaxes.config.run import environments_of, load
from jaxes.core import Problem
from jaxes.environments.base import Environment, tidied
from jaxes.film import Film, check_output, encoded, save
from jaxes.planning.control import agent_in
from jaxes.policies import initial_state
from jaxes.policy_directory import is_policy, load_policy
from jaxes.report.episode import Actor, play
from jaxes.training.evaluate import Choice, restored, start_of
from jaxes.training.learn import learned
from jaxes.training.loaded import problem_of

PIECES_PER_SECOND = 10.0


class Acting(Protocol):
    """A policy with its parameters: what `jaxes.policies.Policy` is without `params`."""

    @property
    def initial_state(self) -> Any: ...

    def apply(self, policy_state: Any, observation: Array) -> tuple[Array, Any]: ...


class View(NamedTuple):
    """What is seen: width and height in pixels, and how long."""

    width: int = 320
    height: int = 240
    max_seconds: float = 20.0

    def check(self) -> None:
        """Raises a ValueError for a field outside its range."""
        check_count("width", self.width, minimum=16, maximum=4096)
        check_count("height", self.height, minimum=16, maximum=4096)
        check_positive("max_seconds", self.max_seconds)


def render(run: str | os.PathLike, path: str | os.PathLike | None = None, **options: Any) -> Path:
    """Writes a film of a run, and returns its path.

    Args:
      run: as in `film_of`.
      path: a file that ends in `.mp4` or `.gif` and is not there yet; by default one in the run.
      **options: of `film_of`.

    Raises:
      ValueError: the file cannot be written, or as in `film_of`.

    Example:
      >>> jaxes.render("runs/hopper", "hopper.gif", checkpoint="best")
    """
    output = Path(path) if path is not None else free_path(Path(run))
    check_output("path", output)
    save(film_of(run, **options), output)
    return output


def free_path(run: Path) -> Path:
    """A file in a run's directory that is not there yet: `film.mp4`, `film-2.mp4`, ...; of a policy
    here, since its directory stays as it is.

    Raises:
      ValueError: there is no such run.
    """
    if not is_policy(run):
        config_of_run(run)
    folder = Path() if is_policy(run) else run
    path, number = folder / "film.mp4", 1
    while path.exists():
        number += 1
        path = folder / f"film-{number}.mp4"
    return path


def film_of(
    run: str | os.PathLike,
    *,
    checkpoint: Choice = "latest",
    task: str | None = None,
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    max_seconds: float = 20.0,
) -> Film:
    """An episode of a run's mean policy or of its planner, or a game of its Tetris controller.

    Frames follow at the environment's true speed, at most 30 a second. A game has ten pieces a
    second, and a board its own size.

    Args:
      run: the directory of a run that has a config, of a trial of a sweep, or of a policy that has
        left its run; it is only read.
      checkpoint: `latest`, `best` (by the test that training made at that generation), or its
        generation.
      task: of a run over many tasks, by default the first.
      seed: of the episode.
      width: pixels, 16 to 4096.
      height: likewise.
      max_seconds: what lasts longer is cut there.

    Raises:
      ValueError: it is no run, has no such checkpoint, or nothing that can be drawn; a value
        outside its range; nothing is installed that draws.

    Example:
      >>> film = film_of("runs/hopper")
      >>> film.frames.shape, film.fps, film.episode_return
    """
    view = View(width, height, max_seconds)
    view.check()
    check_seed("seed", seed)
    path, plans = Path(run), not is_policy(run) and is_plan_run(Path(run))
    if plans:
        check("task", task, task is None, "left out: it is no run over many tasks")
        return _of_planner(path, checkpoint, seed, view)
    of = _of_policy if is_policy(run) else _of_problem
    return of(path, checkpoint, task, seed, view)


def film(
    environment: Environment,
    policy: Acting,
    *,
    key: Array,
    episode_length: int = 1000,
    width: int = 320,
    height: int = 240,
    max_seconds: float = 20.0,
) -> Film:
    """An episode of a policy.

    Args:
      environment: one that draws itself.
      policy: with its parameters, as `jaxes.load_policy` gives it: `initial_state`, and
        `apply(policy_state, observation) -> (action, policy_state)`.
      key: of the episode.
      episode_length: steps after which it is cut.
      width: pixels, 16 to 4096.
      height: likewise.
      max_seconds: what lasts longer is cut there.

    Raises:
      ValueError: the environment cannot be drawn; a value outside its range.
    """
    view = View(width, height, max_seconds)
    view.check()
    check_count("episode_length", episode_length)
    actor = Actor(
        start=partial(initial_state, policy),
        act=lambda key, memory, env_state, observation: policy.apply(memory, observation),
    )
    return _filmed(environment, actor, key, episode_length, view)


def _filmed(
    environment: Environment, actor: Actor, key: Array, episode_length: int, view: View
) -> Film:
    draw = _draws(environment)
    episode = play(tidied(environment), actor, key, episode_length, view.max_seconds)
    what = f"{environment.name}: render"
    with failing(f"{what} fails", unless=lambda error: isinstance(error, ValueError)):
        frames = draw(episode.env_states, view.width, view.height)
    shape = (episode.num_frames, view.height, view.width, 3)
    found = f"{getattr(frames, 'dtype', None)}{list(np.shape(frames))}"
    check(what, found, found == f"uint8{list(shape)}", f"a function to uint8{list(shape)}")
    return Film(frames, episode.fps, episode.episode_return, episode.length)


def _draws(environment: Environment) -> Any:
    """What draws its states."""
    if environment.render is None:
        raise ValueError(f"{environment.name}: nothing draws it (its field `render` is None)")
    return environment.render


def _in_task(problem: Problem, task: str | None) -> Any:
    """The environment that is shown."""
    if task is None:
        return problem.environment
    check("task", task, problem.tasks is not None, "left out: it is no run over many tasks")
    check_name("task", task, problem.tasks or ())
    return (problem.tasks or {})[task]


def _of_problem(run: Path, checkpoint: Choice, task: str | None, seed: int, view: View) -> Film:
    config = load(config_of_run(run))
    problem, strategy, _ = config.build()
    about = config.resolved["problem"]
    environment = _in_task(problem, task)
    key = jax.random.key(seed)
    if problem.policy is not None:
        _draws(environment)  # before anything is computed
    elif about["name"] != "tetris":
        raise ValueError(f"run: {run} has no policy: its problem is {about['name']!r}")
    template = start_of(problem, strategy)
    _, state = restored(run, template, checkpoint)
    if problem.policy is None:
        return _of_game(about, state.strategy.mean, seed, view)
    policy = problem.policy(state.strategy.mean, state.problem)
    acting = policy._replace(apply=partial(policy.apply, policy.init(key)))
    length = problem.episodes.episode_length
    return film(environment, acting, key=key, episode_length=length, **view._asdict())


def _of_policy(
    directory: Path, checkpoint: Choice, task: str | None, seed: int, view: View
) -> Film:
    check("checkpoint", checkpoint, checkpoint == "latest", "latest: a policy has no other one")
    policy = load_policy(directory)
    problem = problem_of(policy, environments_of(policy))
    environment = _in_task(problem, task)
    length = problem.episodes.episode_length
    key = jax.random.key(seed)
    return film(environment, policy, key=key, episode_length=length, **view._asdict())


def _of_game(about: dict[str, Any], mean: Array, seed: int, view: View) -> Film:
    from jaxes import tetris
    from jaxes.tetris.film import filmed, frames

    controller = tetris.Controller.of(about["features"], about["height"], about["width"])
    weighted = tetris.Weighted(controller, tuple(mean.tolist()))
    pieces = max(1, int(view.max_seconds * PIECES_PER_SECOND))
    return filmed(list(frames(weighted, pieces, seed)), PIECES_PER_SECOND)


def _of_planner(run: Path, checkpoint: Choice, seed: int, view: View) -> Film:
    setup = load_plan(config_of_run(run)).build()
    _draws(setup.environment)
    agent = agent_in(setup.environment, setup.planner, setup.model)
    model_state = learned(*setup, run, checkpoint)
    length = setup.training["episode_length"]

    def act(key: Array, memory: Any, env_state: Any, observation: Array) -> tuple[Array, Any]:
        state = agent.model.start(env_state, observation)
        return agent.plan(key, model_state, state, memory)[:2]

    actor = Actor(start=lambda key: agent.init(length), act=act)
    return _filmed(setup.environment, actor, jax.random.key(seed), length, view)


__all__ = ["Acting", "Film", "check_output", "encoded", "film", "film_of", "render", "save"]
