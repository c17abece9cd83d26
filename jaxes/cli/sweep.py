"""`jaxes sweep CONFIG`."""

import argparse
import contextlib
import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.cli import common
from jaxes.config import files
from jaxes.config.sweep import SweepSetup, load
from jaxes.files import size_of
from jaxes.hosts import world
from jaxes.sweeps.sweep import run_sweep
from jaxes.sweeps.table import flat
from jaxes.terminal import format_bytes, say
from jaxes.training.metrics import finite


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("sweep", help="train many configurations and seeds at once")
    common.add_config_options(command)
    command.add_argument(
        "--resume", action="store_true", help="go on with the sweep in --run-dir, if there is one"
    )
    command.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    common.add_jax_options(command)
    common.add_hosts_options(command)
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    path = files.find(options.config)
    setup = load(path, tuple(options.set))
    common.check_resume(options)
    sweep(setup, common.run_dir_of(path, options), options, console, resume=options.resume)


def sweep(
    setup: SweepSetup, run_dir: Path, options: argparse.Namespace, console: Console, resume: bool
) -> None:
    """A sweep from its start, or from where it was cut."""
    trials = sum(len(group.trials) for group in setup.groups)
    static = f", because of {', '.join(setup.static)}" if setup.static else ""
    common.say_ready(console)
    repeated = f"; {setup.repeated} repeated configurations left out" if setup.repeated else ""
    say(console, f"{trials} trials in {len(setup.groups)} programs{static}{repeated}")
    dry_run = getattr(options, "dry_run", False)
    with contextlib.nullcontext() if dry_run else common.resumable(run_dir):
        result = run_sweep(
            setup.groups,
            setup.schedule,
            **setup.options,
            run_dir=run_dir,
            resume=resume,
            console=console,
            config=setup.data,
            dry_run=dry_run,
        )
    if dry_run:
        if options.json:
            print(json.dumps({"trials": trials, "programs": len(setup.groups)}))
        return
    if not world.is_first():
        return
    from jaxes.report.layout import fitted
    from jaxes.report.runs import read_sweep
    from jaxes.report.tables import label, rank, ranking

    finished = read_sweep(run_dir)
    ranked = rank(finished)
    labels = [label(row.values) for row in ranked]
    console.print(fitted(ranking(finished, ranked), console.width, labels))
    quoted = shlex.quote(str(run_dir))
    say(
        console,
        f"{trials} trials in {result.seconds:,.0f} s, {result.compile_seconds:,.0f} s of them "
        f"compilation\nsweep: {run_dir} ({format_bytes(size_of(run_dir))})\n"
        f"next: jaxes report {quoted}        (a page)",
    )
    if (run_dir / "best.yaml").exists():
        say(console, f"      jaxes train {quoted}/best.yaml        (the best configuration)")
    else:
        say(console, "all trials diverged")
    if options.json:
        rows = [finite(flat(row)) for row in result.results]
        told = {"seconds": result.seconds, "compile_seconds": result.compile_seconds}
        print(json.dumps({"run_dir": str(run_dir), **told, "trials": rows}))
