"""`jaxes render RUN`."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.cli import common
from jaxes.config.plan import is_plan_run
from jaxes.terminal import format_number, say


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("render", help="film an episode of a run's policy")
    command.add_argument("run", type=Path, help="a run directory")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="an .mp4 or .gif; default: RUN/film.mp4"
    )
    common.add_checkpoint_option(command)
    command.add_argument("--task", metavar="NAME", help="of many tasks; default: the first")
    command.add_argument("--seed", type=int, default=0, help="of the episode; default: 0")
    command.add_argument("--width", type=int, default=320, help="pixels; default: 320")
    command.add_argument("--height", type=int, default=240, help="pixels; default: 240")
    command.add_argument("--seconds", type=float, default=20.0, help="at most; default: 20")
    common.add_jax_options(command, plans=lambda options: is_plan_run(options.run))
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    from jaxes.report.render import check_output, film_of, free_path, save

    path = options.output or free_path(options.run)
    check_output("--output", path)
    film = film_of(
        options.run,
        checkpoint=common.checkpoint_of(options),
        task=options.task,
        seed=options.seed,
        width=options.width,
        height=options.height,
        max_seconds=options.seconds,
    )
    save(film, path)
    say(
        console,
        f"return {format_number(film.episode_return)} in {film.length:,} steps, "
        f"{film.seconds:.1f} s at true speed\n{path}",
    )
    if options.json:
        told = {"path": str(path), "return": film.episode_return, "length": film.length}
        print(json.dumps(told | {"seconds": film.seconds, "fps": film.fps}))
