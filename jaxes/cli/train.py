"""`jaxes train CONFIG`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxes
from jaxes.cli import common
from jaxes.config import files
from jaxes.config.run import Config, load
from jaxes.training import RunResult


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("train", help="train from a config")
    common.add_config_options(command)
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in --run-dir, if there is one"
    )
    common.add_jax_options(command)
    common.add_hosts_options(command)
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    path = files.find(options.config)
    config = load(path, tuple(options.set))
    common.check_resume(options)
    train(config, common.run_dir_of(path, options), options, console, resume=options.resume)


def train(
    config: Config, run_dir: Path, options: argparse.Namespace, console: Console, resume: bool
) -> RunResult:
    """A run from its start, or from where it was cut."""
    problem, strategy, training = config.build()
    common.say_ready(console)
    with common.resumable(run_dir):
        result = jaxes.train(
            problem,
            strategy,
            **training,
            run_dir=run_dir,
            resume=resume,
            console=console,
            config=config.resolved,
        )
    quoted = shlex.quote(str(run_dir))
    drawn = problem.environment is not None and problem.environment.render is not None
    film = f"      jaxes render {quoted}        (a film of it)\n" if drawn else ""
    next_commands = (
        f"jaxes evaluate {quoted}        (test the policy)\n{film}"
        f"      jaxes train {quoted}/config.yaml --set training.seed=1        (another seed)"
    )
    common.say_end(result, run_dir, options, console, next_commands)
    return result
