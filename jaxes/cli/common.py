"""What several commands share: options, and what they say."""

import argparse
import contextlib
import json
import math
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from jaxes import clock
from jaxes.files import size_of
from jaxes.hosts import world
from jaxes.hosts.join import PATIENCE, TIMEOUT
from jaxes.terminal import format_bytes, format_number, say
from jaxes.training import RunResult
from jaxes.training.display import describe_names, describe_tests
from jaxes.training.metrics import finite


def add_config_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", help="a YAML file, or the name of one that `jaxes list` shows")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a field of the config; may be repeated",
    )
    command.add_argument("--run-dir", help="default: runs/CONFIG-DATE-TIME-PROCESS")


def add_jax_options(
    command: argparse.ArgumentParser,
    plans: Callable[[argparse.Namespace], bool] = lambda options: False,
) -> None:
    """Of the commands that compute; `plans` says whether a planner runs, which wants small loops as
    one kernel (see `use_cpu_devices`)."""
    command.set_defaults(plans=plans)
    command.add_argument("--json", action="store_true", help="end with one JSON object")
    command.add_argument("--cpu-devices", type=int, metavar="N", help="default: one a core")
    command.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where compiled programs are kept, or `none`; default: the user's cache folder",
    )


def add_hosts_options(command: argparse.ArgumentParser) -> None:
    """Of the commands that many processes run as one."""
    command.add_argument(
        "--hosts",
        metavar="auto|off|ADDR:PORT,NUM,ID",
        help="run as one of many processes: as the cluster says, or process ID of NUM, of which "
        "the first listens at ADDR:PORT; default: off",
    )
    command.add_argument(
        "--join-timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="within which all processes must come (%(default)g)",
    )
    command.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help="without progress, after which all processes end with code 75 (%(default)g)",
    )


def add_checkpoint_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checkpoint",
        default="latest",
        metavar="best|latest|N",
        help="by training's tests, the last one (default), or that of generation N",
    )


def checkpoint_of(options: argparse.Namespace) -> Any:
    which = options.checkpoint
    return int(which) if which.isascii() and which.isdecimal() else which


def check_resume(options: argparse.Namespace) -> None:
    if options.resume and not options.run_dir:
        raise ValueError("--resume must come with the --run-dir to go on with")


def run_dir_of(config: Path, options: argparse.Namespace) -> Path:
    if options.run_dir == "":
        raise ValueError("--run-dir must be a path, got ''")
    default = f"runs/{config.stem}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    return Path(options.run_dir or default)


def say_ready(console: Console) -> None:
    devices = jax.local_devices()
    of_each = f" of each of {world.count()} processes" if world.joined() else ""
    say(
        console,
        f"ready after {time.monotonic() - clock.STARTED:.1f} s, on {len(devices)} "
        f"{devices[0].platform} device{'s' if len(devices) > 1 else ''}{of_each}",
    )


def say_result(result: RunResult, console: Console, unit: str = "generation") -> None:
    count = result.num_test_episodes - result.num_test_diverged
    diverged = f"; {result.num_test_diverged} more DIVERGED" if result.num_test_diverged else ""
    half = result.return_ci95
    interval = f" ± {format_number(half)} (95 %)" if math.isfinite(half) else ""
    say(
        console,
        f"return {format_number(result.return_mean)}{interval} over "
        f"{count} fresh episodes{diverged} (zero policy: "
        f"{format_number(result.zero_policy_return)}), at {unit} {result.generation}"
        f"{', target reached' if result.status == 'target' else ''}",
    )
    if result.episode_length > 0:
        least, median, most = (
            format_number(value)
            for value in (result.return_min, result.return_median, result.return_max)
        )
        population = result.population_return
        whose = "its population" if unit == "generation" else f"its last {unit}"
        own = f"; {whose}, in episodes of its own, {format_number(population)}"
        say(
            console,
            f"least {least}, median {median}, most {most}; {describe_tests(result._asdict())}"
            f"{'' if math.isnan(population) else own}",
        )
    if result.tests:
        say(console, describe_names(result.tests))


def say_end(
    result: RunResult,
    run_dir: Path,
    options: argparse.Namespace,
    console: Console,
    next_commands: str,
    unit: str = "generation",
) -> None:
    """What a run alone came to, where it lies, and what to type next."""
    if not world.is_first():
        return
    say_result(result, console, unit)
    say(
        console,
        f"{result.env_steps:,} environment steps in {result.seconds:,.0f} s, after "
        f"{result.compile_seconds:,.0f} s of compilation\n"
        f"run: {run_dir} ({format_bytes(size_of(run_dir))})\n"
        f"next: {next_commands}",
    )
    if options.json:
        print(json.dumps(finite(result.plain())))


@contextlib.contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "before the first generation"
        command = f"jaxes resume {shlex.quote(str(run_dir))}"
        interrupt.args = (f"{reason}; go on with: {command}",)
        raise
