"""`jaxes plan CONFIG`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxes
from jaxes.cli import common
from jaxes.config import files
from jaxes.config.plan import PlanConfig, load
from jaxes.training import RunResult


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("plan", help="act by planning, with a true or a learned model")
    common.add_config_options(command)
    common.add_jax_options(command, plans=lambda options: True)
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    path = files.find(options.config)
    config = load(path, tuple(options.set))
    plan(config, common.run_dir_of(path, options), options, console, resume=False)


def plan(
    config: PlanConfig, run_dir: Path, options: argparse.Namespace, console: Console, resume: bool
) -> RunResult:
    """Trials from the first, or from where they were cut."""
    environment, planner, model, training = config.build()
    common.say_ready(console)
    with common.resumable(run_dir):
        result = jaxes.learn_to_control(
            environment,
            planner,
            model,
            **training,
            run_dir=run_dir,
            resume=resume,
            console=console,
            config=config.resolved,
        )
    next_commands = f"jaxes report {shlex.quote(str(run_dir))}"
    common.say_end(result, run_dir, options, console, next_commands, "trial")
    return result
