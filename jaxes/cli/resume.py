"""`jaxes resume RUN`: a run, a sweep or trials of a planner go on from its checkpoints."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.cli import common
from jaxes.cli.plan import plan
from jaxes.cli.sweep import sweep
from jaxes.cli.train import train
from jaxes.config import files
from jaxes.config.plan import is_plan_run
from jaxes.config.plan import load as load_plan
from jaxes.config.run import load
from jaxes.config.sweep import load as load_sweep
from jaxes.sweeps.table import renew
from jaxes.terminal import say
from jaxes.training.directory import sweep_of


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("resume", help="go on with a run or sweep from its checkpoints")
    command.add_argument("run", type=Path, help="the directory of a run or a sweep")
    common.add_jax_options(command, plans=lambda options: is_plan_run(options.run))
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    path = files.config_of_run(options.run)
    sections = files.read(path)
    if "sweep" in sections:
        sweep(load_sweep(path), options.run, options, console, resume=True)
    elif "planner" in sections:
        plan(load_plan(path), options.run, options, console, resume=True)
    else:
        result = train(load(path), options.run, options, console, resume=True)
        whole, name = sweep_of(options.run), options.run.resolve().name
        if whole is not None and (whole / "results.csv").exists() and name.isdigit():
            try:
                renew(whole, int(name), result)
                say(console, f"the tables of {whole} have it now")
            except ValueError as error:
                say(console, f"the tables of {whole} do not have it yet: {error}")
