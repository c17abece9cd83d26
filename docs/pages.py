"""Runs the Python blocks of a page, in order, in one namespace:

    python docs/pages.py docs/lecture/3_cma_es.md [--output FOLDER]

Pictures are written beside the page, or to FOLDER, where the blocks run. Each picture that the page
shows, `![...](name.svg)`, must have been written then. Nothing is seeded and nothing is added: what
a reader would type is what runs. Tracebacks name the page and its lines. Two lines before a block,
which no reader sees, say otherwise:

    <!-- not run: REASON -->         it is left out
    <!-- run with: NAME=NUMBER -->   it takes long: this argument, or several with commas, is
                                     another number
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

NOT_RUN = re.compile(r"<!-- not run: \S.*-->")
RUN_WITH = re.compile(r"<!-- run with: (.+) -->")


class Page(NamedTuple):
    """What a page holds: its blocks as (number of the first line, code), and what it shows."""

    blocks: list[tuple[int, str]]
    pictures: list[str]  # names of files beside it


def read(page: Path) -> Page:
    """The blocks of a page that run, and its pictures.

    Raises:
      ValueError: a block is to be run with an argument that it does not have once.
    """
    found, comment = Page([], []), ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        is_python = token.type == "fence" and token.info.split()[:1] == ["python"]
        if is_python and token.map and not NOT_RUN.search(comment):
            first_line = token.map[0] + 2  # counted from 1; the fence
            with_others = RUN_WITH.search(comment)
            try:
                code = _replaced(token.content, with_others[1] if with_others else "")
            except ValueError as error:
                raise ValueError(f"{page}, line {first_line - 2}: {error}") from error
            found.blocks.append((first_line, code))
        images = [part for part in token.children or [] if part.type == "image"]
        sources = [str(image.attrs["src"]) for image in images]
        found.pictures.extend(source for source in sources if "/" not in source)
        comment = token.content if token.type == "html_block" else ""
    return found


def _replaced(code: str, arguments: str) -> str:
    """The code with other numbers, as `<!-- run with: ... -->` has them."""
    for argument in filter(None, arguments.split(", ")):
        name = argument.partition("=")[0]
        code, count = re.subn(rf"\b{name}=\d+\b", argument, code)
        if count != 1:
            raise ValueError(f"run with {argument}: the block has {name}=NUMBER {count} times")
    return code


def run(page: Path, output: Path) -> Page:
    """Runs a page in the folder `output`.

    Raises:
      FileNotFoundError: a picture that it shows was not written. Whatever a block raises.
    """
    found, page = read(page), page.resolve()  # for tracebacks, which read its lines
    os.chdir(output)
    before = {name: _written(name) for name in found.pictures}
    namespace = {"__name__": "__main__"}
    for first_line, code in found.blocks:
        exec(compile("\n" * (first_line - 1) + code, page, "exec"), namespace)
    if missing := [name for name in found.pictures if _written(name) == before[name]]:
        raise FileNotFoundError(f"{page} shows what it has not written: {', '.join(missing)}")
    return found


def _written(name: str) -> int:
    """When this file was written, in nanoseconds; 0 where there is none."""
    return os.stat(name).st_mtime_ns if os.path.exists(name) else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--output", type=Path, help="where pictures go; beside the page by default")
    options = parser.parse_args()
    started = time.monotonic()
    found = run(options.page, options.output or options.page.parent)
    seconds = time.monotonic() - started
    print(f"{options.page}: {len(found.blocks)} blocks in {seconds:.1f} s", file=sys.stderr)
    for name in found.pictures:
        print(f"drawn: {(options.output or options.page.parent) / name}", file=sys.stderr)


if __name__ == "__main__":
    main()
