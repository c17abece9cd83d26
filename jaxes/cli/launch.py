"""`jaxes launch -n N -- train CONFIG`: many processes on this machine."""

import argparse
from typing import Any

from rich.console import Console

from jaxes.checks import check, check_count
from jaxes.hosts.launch import Launcher
from jaxes.terminal import say

COMMANDS = ("train", "sweep", "resume")


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "launch", help="train, sweep or resume in many processes on this machine"
    )
    command.add_argument("-n", type=int, required=True, metavar="N", help="how many")
    command.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="how many times to start again from the last checkpoint when a process is lost",
    )
    command.add_argument(
        "--cpu-devices",
        dest="devices_of_each",
        type=int,
        metavar="N",
        help="of each process; default: its share of the cores, at least one",
    )
    command.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="of jaxes, with its options"
    )
    return command


def run(options: argparse.Namespace, console: Console) -> int:
    check_count("-n", options.n, maximum=1024)
    check_count("--restarts", options.restarts, minimum=0)
    if options.devices_of_each is not None:
        check_count("--cpu-devices", options.devices_of_each, maximum=1024)
    command = options.rest[1:] if options.rest[:1] == ["--"] else options.rest
    name = command[0] if command else ""
    check("the command after --", name, name in COMMANDS, f"one of {', '.join(COMMANDS)}")
    for field in ("--hosts", "--cpu-devices"):
        given = [part for part in command if part.split("=")[0] == field]
        check(field, given, not given, "left out after --: launch gives it to each process")
    check_resumable(command, options.restarts)
    launcher = Launcher(
        command,
        options.n,
        options.restarts,
        options.devices_of_each,
        say=lambda text: say(Console(stderr=True), f"jaxes launch: {text}"),
    )
    return launcher.run()


def check_resumable(command: list[str], restarts: int) -> None:
    """Raises a ValueError where nobody could start the command again."""
    named = command[0] == "resume" or any(part.split("=")[0] == "--run-dir" for part in command)
    allowed = "with --run-dir after --, or nobody knows what to go on with"
    check("--restarts", restarts, named or restarts == 0, allowed)
