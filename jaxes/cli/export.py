"""`jaxes export RUN --output DIR`: the policy leaves its run."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

import jaxes
from jaxes.checks import check_count
from jaxes.cli import common
from jaxes.files import check_free
from jaxes.terminal import format_number, say


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("export", help="write a run's policy into a directory of its own")
    command.add_argument("run", type=Path, help="a run directory")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new one")
    command.add_argument("--episodes", type=int, default=100, help="of its test; default: 100")
    common.add_checkpoint_option(command)
    common.add_jax_options(command)
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    check_count("--episodes", options.episodes)
    check_free("--output", options.output)
    policy = jaxes.export(
        options.run,
        options.output,
        checkpoint=common.checkpoint_of(options),
        num_episodes=options.episodes,
    )
    told = policy.about["result"]
    mean, std = (told[name] for name in ("return_mean", "return_std"))
    returns = "none"
    if mean is not None:
        returns = f"{format_number(mean)} (standard deviation {format_number(std)})"
    say(
        console,
        f"return {returns} over {told['num_test_episodes']} fresh episodes, at generation "
        f"{told['generation']}\n"
        f"policy: {options.output}\n"
        f"next: jaxes evaluate {shlex.quote(str(options.output))}",
    )
    if options.json:
        print(json.dumps(policy.about))
