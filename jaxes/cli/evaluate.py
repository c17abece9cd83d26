"""`jaxes evaluate RUN`, or of a policy directory."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxes
from jaxes.checks import check_count, check_seed
from jaxes.cli import common
from jaxes.config.plan import is_plan_run
from jaxes.training.metrics import finite


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("evaluate", help="test a run's policy on fresh episodes")
    command.add_argument("run", type=Path, help="the directory of a run or a policy")
    command.add_argument("--episodes", type=int, default=100, help="default: 100")
    command.add_argument("--seed", type=int, default=0, help="of the episodes; default: 0")
    common.add_checkpoint_option(command)
    common.add_jax_options(command, plans=lambda options: is_plan_run(options.run))
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    check_count("--episodes", options.episodes)
    check_seed("--seed", options.seed)
    result = jaxes.evaluate(
        options.run,
        num_episodes=options.episodes,
        seed=options.seed,
        checkpoint=common.checkpoint_of(options),
    )
    unit = "trial" if is_plan_run(options.run) else "generation"
    common.say_result(result, console, unit)
    if options.json:
        print(json.dumps(finite(result.plain())))
