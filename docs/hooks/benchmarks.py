"""Pages of the benchmarks, drawn from `benchmarks/results/*.json` when the site is built.

A page says what was asked (the docstring of the script), on what machine it was measured, and the
rows, as tables that fit a page: a long list of numbers is its median, many rows are counted by what
they have in common, and other long or nested values are left out and named.
"""

import ast
import importlib
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
KINDS = ("part", "what", "kind")  # a column that says which rows belong together
FEW, MANY, LONG = 3, 30, 80  # numbers in a cell, rows in a table, characters in a cell

Row = dict[str, Any]


def script(results: Path) -> Path:
    """The benchmark that wrote it: the one with the longest name that this one begins with."""
    words = results.stem.split("-")
    named = ["_".join(words[:count]) for count in range(len(words), 0, -1)]
    scripts = [path for name in named if (path := ROOT / "benchmarks" / f"{name}.py").exists()]
    if not scripts:
        raise ValueError(f"{results.name} is of no script in benchmarks/: none has such a name")
    return scripts[0]


def module(name: str) -> Any:
    """A module in `benchmarks/`, which import each other as scripts do: by their names alone."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def docstring(path: Path) -> str:
    """Of a script, without running it."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def question(results: Path) -> str:
    """What the benchmark asks: the first sentence or line of its docstring."""
    return docstring(script(results)).split("\n\n")[0].replace("\n", " ")


def escaped(text: str) -> str:
    """As it stands, in Markdown."""
    return "".join(f"&#{ord(letter)};" if letter in "<>&|*_`[]$\\~" else letter for letter in text)


def number(value: float) -> str:
    """To four digits."""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def numbers(values: Sequence[float | None]) -> str:
    """A few as they are, of more the median of those that are there."""
    if len(values) <= FEW:
        return " / ".join(str(cell(value)) for value in values)
    there = [value for value in values if value is not None]
    if not there:
        return f"none of {len(values)}"
    missing = f", {len(values) - len(there)} without" if len(there) < len(values) else ""
    return f"{number(statistics.median(there))} (median of {len(there)}{missing})"


def cell(value: Any) -> str | None:
    """A value as text, or None where it is too long or nested."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value)
        case str() if len(value) <= LONG:
            return escaped(value)
        case [*values] if values and all(map(is_number, values)):
            return numbers(values)
        case [*words] if words and all(isinstance(word, str) for word in words):
            return cell(", ".join(words))
        case []:
            return "none"
    return None


def is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def flat(row: Mapping[str, Any], before: str = "") -> Row:
    """With what is nested as columns of its own: `{"old": {"seconds": 1}}` has `old seconds`."""
    columns: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            columns |= flat(value, f"{before}{name} ")
        else:
            columns[f"{before}{name}"] = value
    return columns


def table(rows: Iterable[Mapping[str, Any]], left_out: set[str]) -> str:
    """Rows as a table in Markdown; columns that no cell can hold are added to `left_out`."""
    rows = list(map(flat, rows))
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        column = [cell(row[name]) if name in row else "" for row in rows]
        if None in column:
            left_out.add(name)
        else:
            columns[name] = column
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    lines[0] = [escaped(name.replace("_", " ")) for name in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counted(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Many rows as few: how many are alike in their words and answers, and the medians of their
    measured numbers."""
    rows = list(map(flat, rows))
    alike: list[str] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        words = all(isinstance(row.get(name), str | bool | None) for row in rows)
        if words and len(groups(rows, [*alike, name])) <= MANY:
            alike.append(name)
    found = []
    for values, members in sorted(groups(rows, alike).items(), key=str):
        row = dict(zip(alike, values, strict=True)) | {"rows": len(members)}
        for name in members[0]:
            if all(isinstance(member.get(name), float) for member in members):
                row[f"{name} (median)"] = statistics.median(member[name] for member in members)
        found.append(row)
    return found


def groups(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple, list[Row]]:
    """Rows by their values of these columns, in the order in which they come first."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return found


def tables(title: str, rows: Sequence[Row], left_out: set[str]) -> str:
    """A table, or one of each kind of rows where several have so many that they deserve it."""
    kind = next((name for name in KINDS if all(name in row for row in rows)), None)
    kinds = groups(rows, [kind]) if kind else {}
    if len(kinds) * 2 > len(rows) or len(kinds) < 2:
        kinds = {(title,): list(rows)}
        kind = None
    parts = []
    for (name,), members in kinds.items():
        members = [{key: value for key, value in row.items() if key != kind} for row in members]
        few = members if len(members) <= MANY else counted(members)
        parts.append(f"## {escaped(name)}\n\n{table(few, left_out)}")
    return "\n\n".join(parts)


def facts_and_tables(data: Mapping[str, Any], left_out: set[str]) -> tuple[Row, list[str]]:
    """What a file says once, such as its machine, and its rows as tables."""
    facts: Row = {}
    parts: list[str] = []
    for name, value in data.items():
        match value:
            case [{}, *_]:
                parts.append(tables(name, value, left_out))
            case {**some} if some and all(isinstance(part, dict) for part in some.values()):
                rows = [{name: key, **part} for key, part in some.items()]
                parts.append(tables(name, rows, left_out))
            case {**some} if not any(
                isinstance(part, list | dict) and cell(part) is None for part in some.values()
            ):
                facts |= some if name == "machine" else flat({name: some})
            case _:
                facts[name] = value
    return facts, parts


def returns(data: Mapping[str, Any], results: Path) -> str:
    """The table of returns, which has its own form."""
    return module("table_text").drawn(data, str(results.relative_to(ROOT)))


def page(results: Path) -> str:
    """All of a file, as Markdown."""
    by, data = script(results), json.loads(results.read_text())
    said_by = f"`benchmarks/{by.name}`, which wrote `benchmarks/results/{results.name}`, says:"
    asked = f"## What was measured\n\n{said_by}\n\n```text\n{docstring(by)}\n```\n"
    if by.name == "table.py":
        return f"# What it learns ({results.stem})\n\n{returns(data, results)}\n{asked}"
    left_out: set[str] = set()
    facts, parts = facts_and_tables(data, left_out)
    there = {name: cell(value) for name, value in facts.items()}
    left_out |= {name for name, text in there.items() if text is None}
    settings = (f"**{escaped(name)}** {text}" for name, text in there.items() if text is not None)
    parts = [
        f"# {results.stem}",
        escaped(question(results)),
        " · ".join(settings),
        *parts,
        f"Left out, and in the file: {escaped(', '.join(sorted(left_out)))}." if left_out else "",
        asked,
    ]
    return "\n\n".join(filter(None, parts))


def index(files: Iterable[Path]) -> str:
    """The page that lists them."""
    rows = []
    for results in files:
        about = json.loads(results.read_text()).get("machine")
        if about is None:  # no rows yet
            continue
        on = escaped(module("machine").place(about)).replace(" ", "&nbsp;")
        link = f"[{results.stem}]({results.stem}.md)"
        rows.append(f"| {link} | {escaped(question(results))} | {on} |")
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "One script a claim, in `benchmarks/`. These pages are drawn from what they wrote, in",
            "`benchmarks/results/`. A `bar` is what a script demands; it exits with 1 where it is",
            "missed.",
            "",
            "| results | what was asked | measured on |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: adds the pages."""
    from mkdocs.structure.files import File

    # The table of returns first: it is what most readers look for.
    order = lambda results: (script(results).name != "table.py", results)  # noqa: E731
    measured = sorted(RESULTS.glob("*.json"), key=order)
    pages = {"index": index(measured)} | {results.stem: page(results) for results in measured}
    for name, text in pages.items():
        files.append(File.generated(config, f"benchmarks/{name}.md", content=text))
    return files
