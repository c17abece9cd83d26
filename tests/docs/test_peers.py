"""The page about peers names the versions that were measured, and no algorithm too few."""

import itertools
import json
import re
import sys

import pytest
from scripts import ROOT

import jaxes

sys.path.insert(0, str(ROOT / "benchmarks"))

import peers

PAGE = (ROOT / "docs" / "peers.md").read_text()
ROWS = json.loads((ROOT / "benchmarks" / "results" / "peers-cpu.json").read_text())["rows"]


def table(column):
    """The table of the page that has this column: its cells by row and column, without the comments
    that say where figures are from."""
    lines = iter(re.sub("<!--.*?-->", "", PAGE).splitlines())
    header = next(line for line in lines if line.startswith("|") and f"| {column} |" in line)
    names = cells_of(header)
    assert set(next(lines)) <= set("|-")
    rows = map(cells_of, itertools.takewhile(lambda line: line.startswith("|"), lines))
    return {cells[0]: dict(zip(names, cells, strict=True)) for cells in rows}


def cells_of(line):
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def installation(peer):
    (row,) = [row for row in ROWS if (row["part"], row["peer"]) == ("install", peer)]
    return row


@pytest.mark.parametrize("peer", peers.PEERS)
def test_versions_are_those_that_were_measured(peer):
    row = installation(peer)
    assert row["version"] == peers.PEERS[peer].version
    cells = {re.sub(r".*\(`(.*)`\)", r"\1", name): of for name, of in table("version").items()}
    beside = [f"{name} {version}" for name, version in row["beside"].items() if name != "numpy"]
    assert cells[peer]["beside it"] == (", ".join(beside) or "–")
    said = {True: "yes", False: "no"}
    expected = [row["version"], said[row["installs"]], said[row["imports"]]]
    assert [cells[peer][column] for column in ("version", "installs", "imports")] == expected


def test_algorithms_are_counted():
    counts = table("jaxes")["algorithms, by their own lists"]
    assert counts["jaxes"] == str(len(jaxes.STRATEGIES))
    assert "" not in counts.values()


def test_what_fails_on_brax_is_said():
    told = table("jaxes")[f"Brax {peers.BRAX.partition('==')[2]}"]
    rows = {row["peer"]: row["runs"] for row in ROWS if row["part"] == "brax"}
    for name, said in told.items():
        if (peer := name.lower()) in rows:
            assert said == ("yes" if rows[peer] else "fails"), name
    assert len(rows) == sum(peer.brax is not None for peer in peers.PEERS.values())
