"""`jaxes resume RUN`: a run, a sweep or trials of a planner go on from its checkpoints."""

import argparse
import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.checks import check
from jaxes.cli import common
from jaxes.cli.plan import plan
from jaxes.cli.sweep import sweep
from jaxes.cli.train import train
from jaxes.config import files
from jaxes.config.plan import is_plan_run
from jaxes.config.plan import load as load_plan
from jaxes.config.run import load
from jaxes.config.sweep import load as load_sweep
from jaxes.hosts import agree, world
from jaxes.sweeps.table import renew
from jaxes.terminal import say
from jaxes.training.directory import sweep_of


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("resume", help="go on with a run or sweep from its checkpoints")
    command.add_argument("run", type=Path, help="the directory of a run or a sweep")
    common.add_jax_options(command, plans=lambda options: is_plan_run(options.run))
    common.add_hosts_options(command)
    return command


def shared_config(run_dir: Path) -> Path:
    """The config of a run, whose directory only the first of many processes needs to see."""
    text = agree.of_first(lambda: files.config_of_run(run_dir).read_text(encoding="utf-8"))
    if world.is_first():
        return run_dir / "config.yaml"
    copy = Path(tempfile.mkdtemp(prefix="jaxes-")) / "config.yaml"
    atexit.register(shutil.rmtree, copy.parent, ignore_errors=True)
    copy.write_text(text, encoding="utf-8")
    return copy


def run(options: argparse.Namespace, console: Console) -> None:
    path = shared_config(options.run)
    sections = files.read(path)
    if "sweep" in sections:
        sweep(load_sweep(path), options.run, options, console, resume=True)
    elif "planner" in sections:
        allowed = "off for a planner, which runs in one process"
        check("--hosts", options.hosts, not world.joined(), allowed)
        plan(load_plan(path), options.run, options, console, resume=True)
    else:
        result = train(load(path), options.run, options, console, resume=True)
        if not world.is_first():
            return
        whole, name = sweep_of(options.run), options.run.resolve().name
        if whole is not None and (whole / "results.csv").exists() and name.isdigit():
            try:
                renew(whole, int(name), result)
                say(console, f"the tables of {whole} have it now")
            except ValueError as error:
                say(console, f"the tables of {whole} do not have it yet: {error}")
