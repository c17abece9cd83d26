"""The measured figures of README and guides are drawn from the results of the benchmarks.

A figure carries where it comes from in an HTML comment right after it, which no reader sees:

    a mean of -171<!-- planning-cpu.json; rows[?name=='cem 40 x 3'].mean; ,.0f --> over 100 starts

that is: a file in `benchmarks/results/`, a key, a format of Python's, and a factor if there is one
(`; 1e-6` for millions). Keys are JMESPath (https://jmespath.org), with one function more,
`median(numbers)`; a list of one number means that number.

    python docs/figures.py            # writes anew those that differ
    python docs/figures.py --check    # exits with 1 where one differs, or has no number

Pages of the lecture are not looked at: their code prints their figures. Nor is `decisions.md`, a
dated record of what was measured then.
"""

import argparse
import functools
import json
import math
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jmespath

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COMMENT = re.compile(
    r"(?P<figure>(?<![\w.,])[-+]?\d[\d,]*(?:\.\d+)?%?)?<!--(?P<source>.*?)-->", re.DOTALL
)


class Functions(jmespath.functions.Functions):
    """JMESPath's own, and the median."""

    @jmespath.functions.signature({"types": ["array-number"]})
    def _func_median(self, numbers: list[float]) -> float | None:
        return statistics.median(numbers) if numbers else None


def paths() -> list[Path]:
    """README and the guides."""
    guides = sorted((ROOT / "docs").glob("*.md"))
    return [ROOT / "README.md", *(path for path in guides if path.name != "decisions.md")]


@functools.cache
def results(path: Path) -> Any:
    """The JSON of a benchmark."""
    if path.parent != RESULTS or not path.is_file():
        raise ValueError(f"there is no {path.name} in benchmarks/results")
    return json.loads(path.read_text())


def drawn(source: str) -> str:
    """The figure that a comment asks for: `FILE; KEY; FORMAT` or `FILE; KEY; FORMAT; FACTOR`.

    Raises:
      ValueError: the comment cannot be read, or no finite number is there.
    """
    file, *parts = (part.strip() for part in source.split(";"))
    if len(parts) not in (2, 3):
        raise ValueError(f"cannot be read: {source.strip()!r} is not FILE; KEY; FORMAT[; FACTOR]")
    key, spec, *factor = parts
    # What JMESPath raises is a ValueError, and so is a format or a factor that is none.
    value = jmespath.search(key, results(RESULTS / file), jmespath.Options(None, Functions()))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        found = "nothing" if value in (None, []) else json.dumps(value)[:60]
        raise ValueError(f"{file}; {key} is {found}, not one number")
    return format(math.prod([value, *map(float, factor)]), spec)


def redrawn(text: str) -> tuple[str, list[str], list[str]]:
    """The text with its figures as the results have them, and what was said wrong.

    Returns:
      The text; its figures that were others, each with its line; what has no number, likewise, and
      stays as it is.
    """
    differing: list[str] = []
    unread: list[str] = []

    def figure(match: re.Match) -> str:
        old, source = match["figure"], match["source"]
        if old is None and ".json" not in source:
            return match[0]  # a comment of another kind
        line = text.count("\n", 0, match.start()) + 1
        try:
            if old is None:
                raise ValueError(f"no figure stands right before the comment {source.strip()!r}")
            new = drawn(source)
        except ValueError as error:
            unread.append(f"{line}: {' '.join(str(error).split())}")
            return match[0]
        if new != old:
            differing.append(f"{line}: {old} is {new} in {source.strip()}")
        return f"{new}<!--{source}-->"

    return COMMENT.sub(figure, text), differing, unread


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    wrong, count = False, 0
    for path in paths():
        text, differing, unread = redrawn(path.read_text())
        count += len(COMMENT.findall(text))
        for what in [*differing, *unread]:
            print(f"{path.relative_to(ROOT)}:{what}")
        if differing and not check:
            path.write_text(text)
        wrong |= bool(unread or (check and differing))
    print(f"figures looked at: {count}")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
