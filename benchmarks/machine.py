"""What the benchmarks share: the machine's description, how results are kept and judged, the parser
of arguments and their types."""

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax

from jaxes.files import read_json, write_whole


def describe() -> dict[str, str | int | None]:
    """Processor, device and versions, for the JSON of a benchmark."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as cpuinfo:
            names = [line.partition(":")[2].strip() for line in cpuinfo if "model name" in line]
        processor = names[0] if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def place(about: Mapping[str, Any]) -> str:
    """A machine in words, from its description."""
    if about["device"] == "cpu":
        return f"{about['cores']} cores of {about['processor']}"
    return f"{about['devices']} x {about['device']}"


def write(output: Path | None, *, versions: dict[str, str] | None = None, **result: Any) -> None:
    """Writes the JSON of a benchmark, with the machine's description, if it has a place."""
    if output is None:
        return
    output.parent.mkdir(exist_ok=True)
    about = {"machine": describe() | (versions or {})}
    write_whole(output, json.dumps(about | result, indent=1) + "\n")


def rows_of(output: Path | None) -> list[dict[str, Any]]:
    """The rows that a benchmark has measured already; exits where the file is damaged."""
    if output is None or not output.exists():
        return []
    try:
        return read_json(output, {"rows": list})["rows"]
    except ValueError as error:
        sys.exit(str(error))


def measure(
    rows: list[dict[str, Any]],
    parts: Mapping[str, Iterable[tuple[str, Callable[[], dict[str, Any]]]]],
    known: Collection[str],
    output: Path | None,
    **about: Any,
) -> None:
    """Adds the rows of parts, by their names, but for those that are known; each is printed and
    written, with `about` beside, as it comes."""
    for part, named in parts.items():
        for name, make in named:
            if name not in known:
                rows.append({"part": part, "name": name, **make()})
                print(json.dumps(rows[-1]), flush=True)
                write(output, **about, rows=rows)


def exit_by_met(rows: list[dict[str, Any]]) -> NoReturn:
    """Exits with 1 if a row has missed what it was to meet."""
    missed = [row["name"] for row in rows if not row["met"]]
    print(f"missed: {missed}")
    sys.exit(bool(missed))


def compiled(fn: Callable, *arguments: Any) -> tuple[Callable, float]:
    """`fn` compiled for these arguments, and the seconds that tracing and compiling took."""
    started = time.monotonic()
    program = jax.jit(fn).lower(*arguments).compile()
    return program, time.monotonic() - started


def bar_for(bars: dict[int, float], population: int) -> float | None:
    """The bar of the greatest population that is no greater than this one, if there is any."""
    reached = [least for least in bars if least <= population]
    return bars[max(reached)] if reached else None


def exit_by_bars(rows: list[dict]) -> NoReturn:
    """Exits with 1 if the ratio of any row is below its bar."""
    missed = [row for row in rows if row["bar"] is not None and row["ratio"] < row["bar"]]
    print(f"{len(missed)} bars missed")
    sys.exit(bool(missed))


# Arguments: the parser, and what it takes for their `type`


def parser(about: str | None) -> argparse.ArgumentParser:
    """Of a script, whose docstring is what `--help` says."""
    whole = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=about, formatter_class=whole)


def some_of(allowed: Collection[str]) -> Callable[[str], list[str]]:
    """Of names with commas between, each of them one that there is, and once."""

    def read(text: str) -> list[str]:
        names = list(dict.fromkeys(text.split(",")))
        if unknown := [repr(name) for name in names if name not in allowed]:
            there = ", ".join(allowed)
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {there}")
        return names

    return read


def counts(text: str) -> list[int]:
    """Of several, with commas between."""
    return list(map(count, text.split(",")))


def _read(text: str) -> float:
    """0, which is refused, of what is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def positive(text: str) -> float:
    """Of a finite number above 0."""
    number = _read(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
    return number


def count(text: str) -> int:
    """Of a number of steps, seeds or the like, also as 2e6."""
    number = _read(text)
    if number < 1 or number % 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text}")
    return int(number)
