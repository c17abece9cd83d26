"""`jaxes verify RUN`."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxes.config import files
from jaxes.config.plan import load as load_plan
from jaxes.config.run import load
from jaxes.config.sweep import load as load_sweep
from jaxes.files import size_of
from jaxes.terminal import format_bytes, say
from jaxes.training.verify import verify


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("verify", help="look for damage in a run, a sweep or a search")
    command.add_argument("run", type=Path, help="its directory")
    command.add_argument("--json", action="store_true", help="end with one JSON object")
    return command


def _load(path: Path) -> None:
    """As a resume would."""
    sections = files.read(path)
    if "sweep" in sections:
        load_sweep(path)
    elif "planner" in sections:
        load_plan(path)
    else:
        load(path)


def run(options: argparse.Namespace, console: Console) -> int:
    found = verify(options.run, {"config.yaml": _load})
    for path, damage in found.items():
        say(console, f"{path}: {damage or 'whole'}")
    damaged = {str(path): damage for path, damage in found.items() if damage}
    size = format_bytes(size_of(options.run))
    say(console, f"{len(found)} files and checkpoints, {len(damaged)} damaged; {size}")
    if options.json:
        print(json.dumps({"checked": len(found), "damaged": damaged}))
    return 1 if damaged else 0
