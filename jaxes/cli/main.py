"""`jaxes train`, `sweep`, `resume`, ...: options, exit codes, and devices."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
from rich.console import Console

import jaxes
from jaxes import devices
from jaxes.checks import check_count, check_positive
from jaxes.cli import (
    evaluate,
    export,
    launch,
    listing,
    plan,
    render,
    report,
    resume,
    startup,
    sweep,
    tetris,
    train,
    verify,
    watch,
)
from jaxes.exits import BAD_INPUT, BEGUN, DidNotMeetError, code_of
from jaxes.hosts import join, leaving, world
from jaxes.terminal import PatientConsole, say, spell_out

# What is said in a line; other exceptions are errors in the code, and are shown whole.
TOLD = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError, DidNotMeetError)
COMMANDS = (
    train,
    sweep,
    plan,
    resume,
    launch,
    evaluate,
    export,
    render,
    report,
    watch,
    verify,
    tetris,
    listing,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code is 0, 1 (failed), 2 (bad input), 130 (Ctrl-C) or 143
    (SIGTERM), or 75 (of many processes one was lost); see `jaxes.exits`."""
    for stream in (sys.stdout, sys.stderr):
        spell_out(stream)
    options = make_parser().parse_args(arguments)
    # With --json, stdout is for machines and everything else goes to stderr.
    console = PatientConsole(stderr=getattr(options, "json", False))
    warnings.formatwarning = _one_line  # type: ignore[assignment]
    try:
        if "cpu_devices" in options:
            _set_up_jax(options)
        if not world.is_first():
            console = PatientConsole(quiet=True)
            options.json = False
        with leaving.together():
            return options.command(options, console) or 0
    except BrokenPipeError:  # of `jaxes list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except TOLD as error:
        code, notes = code_of(error), getattr(error, "__notes__", [])
        begun = [note for note in notes if note.startswith(BEGUN)]
        what = "error" if code == BAD_INPUT else "failed"
        say(Console(stderr=True), f"jaxes: {what}: {'; '.join([str(error), *begun])}")
        return code
    except KeyboardInterrupt as interrupt:
        said = f"interrupted: {interrupt}" if str(interrupt) else "interrupted"
        say(console, said)
        return code_of(interrupt)
    return 0


def _one_line(message: Warning | str, *_: Any) -> str:
    return f"jaxes: warning: {message}\n"


class _Parser(argparse.ArgumentParser):
    """One whose refusals are one line too."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (--help shows what there is)\n")


def make_parser() -> argparse.ArgumentParser:
    """Of all commands, with their options."""
    parser = _Parser(
        prog="jaxes", description="Train policies by evolution strategies on accelerators."
    )
    parser.add_argument("--version", action="version", version=jaxes.__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        command = module.add_to(commands)
        command.set_defaults(command=module.run)
    return parser


def _set_up_jax(options: argparse.Namespace) -> None:
    """Devices and the compilation cache, before JAX starts."""
    for name in ("join_timeout", "patience"):
        if name in options:
            check_positive(f"--{name.replace('_', '-')}", getattr(options, name))
    chosen = options.cpu_devices is not None
    if chosen:
        check_count("--cpu-devices", options.cpu_devices, maximum=1024)
    try:
        devices.use_cpu_devices(options.cpu_devices, small_loops=options.plans(options))
    except RuntimeError as error:  # called from a program in which JAX runs already
        if chosen:
            raise ValueError(f"--cpu-devices: {error}") from error
    startup.keep_compiled_programs(options.cache_dir, Console(stderr=True))
    if (hosts := getattr(options, "hosts", None)) not in (None, "off"):
        join.use_hosts(hosts, timeout=options.join_timeout, patience=options.patience)
    elif (said := join.said_of_launcher()) is not None:
        say(Console(stderr=True), f"jaxes: {said}")
