"""The page about peers says what its rows say, and a peer that fails is a row."""

import contextlib
import itertools
import json
import re
import sys
from pathlib import Path

import pytest
from scripts import ROOT

import jaxes

sys.path.insert(0, str(ROOT / "benchmarks"))

import peers

PAGE = (ROOT / "docs" / "peers.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
ROWS = json.loads((RESULTS / "peers-cpu.json").read_text())["rows"]


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


def row_of(part, peer):
    (row,) = [row for row in ROWS if (row["part"], row["peer"]) == (part, peer)]
    return row


def test_rows_are_of_the_versions_that_are_wanted_and_none_is_missing():
    found = [peers.identity(row) for row in ROWS]
    assert len(set(found)) == len(found)
    assert set(found) == set().union(*map(peers.identities, peers.PEERS))


@pytest.mark.parametrize("peer", peers.PEERS)
def test_versions_are_those_that_were_measured(peer):
    row = row_of("install", peer)
    cells = {re.sub(r".*\(`(.*)`\)", r"\1", name): of for name, of in table("version").items()}
    beside = [f"{name} {version}" for name, version in row["beside"].items() if name != "numpy"]
    assert cells[peer]["beside it"] == (", ".join(beside) or "–")
    said = {True: "yes", False: "no"}
    expected = [row["version"], said[row["installs"]], said[row["imports"]]]
    assert [cells[peer][column] for column in ("version", "installs", "imports")] == expected
    assert cells[peer]["newest file in its wheel"] == (row_of("wheel", peer)["date"] or "–")


def test_a_cell_of_the_speeds_fails_or_is_empty_where_its_row_does_or_is_not():
    rows = {(row["peer"], row["case"]): row["runs"] for row in ROWS if row["part"] == "step"}
    cells = {}
    for case, line in table("dimension/members").items():
        for name, cell in line.items():
            if name != "dimension/members" and cell:
                key = ("cma" if name == "pycma" else name, case.replace("`", ""))
                cells[key] = cell != "fails"
    assert cells == rows


def test_algorithms_are_counted():
    counts = table("jaxes")["algorithms, by their own lists"]
    assert counts["jaxes"] == str(len(jaxes.STRATEGIES))
    assert "" not in counts.values()


def test_what_fails_on_brax_is_said():
    told = table("jaxes")[f"Brax {peers.BRAX.partition('==')[2]}"]
    rows = {row["peer"]: row["runs"] for row in ROWS if row["part"] == "brax"}
    for name, said in told.items():
        if (peer := name.lower()) in rows:
            assert said == {True: "yes", False: "fails"}[rows[peer]], name


def test_algorithms_that_are_not_made_are_named():
    row = row_of("constructs", "evojax")
    assert sorted([*row["made"], *row["failed"]]) == row_of("algorithms", "evojax")["algorithms"]
    (names,) = re.findall(r"give a population; ([^.]*)\scall names", PAGE)
    assert set(re.findall(r"`(\w+)`", names)) == set(row["failed"])
    beside = [package.replace("==", " ") for package in row["case"].split(", ")]
    assert " and ".join(beside) in " ".join(PAGE.split())


def test_machines_are_named():
    before = PAGE.partition("## What each")[0]
    files = set(re.findall(r"<!-- ([\w-]+\.json);", PAGE))
    assert len(files) > 5
    for file in files:
        machine = json.loads((RESULTS / file).read_text())["machine"]
        name = machine["processor"] if machine["device"] == "cpu" else machine["device"]
        name = re.sub(r"\(R\)| Processor", "", name)
        versions = f"Python {machine['python']} and jax {machine['jax']}"
        name, versions = (re.escape(text).replace(r"\ ", r"\s+") for text in (name, versions))
        assert re.search(rf"{name}\b[^;.]*{versions}\b", before), file


# The benchmark.


class FailingSide:
    """A side of a comparison that answers so often, and fails then."""

    def __init__(self, answers):
        self.answers = answers

    def ask(self, case):
        self.answers -= 1
        found = {"seconds": 1.0, "first_seconds": 1.0}
        return found if self.answers >= 0 else {"error": "ValueError: no more"}


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_a_peer_that_fails_in_any_pair_is_a_row(answers, monkeypatch):
    both = (FailingSide(answers), FailingSide(99))
    monkeypatch.setattr(peers, "sides", lambda *_: contextlib.nullcontext(both))
    assert peers.measured("", {}, Path(), 3) == {"runs": False, "error": "ValueError: no more"}
    both[0].answers = 4
    assert peers.measured("", {}, Path(), 3)["ratio"] == 1


def test_ours_may_not_fail(monkeypatch):
    both = (FailingSide(99), FailingSide(2))
    monkeypatch.setattr(peers, "sides", lambda *_: contextlib.nullcontext(both))
    with pytest.raises(RuntimeError, match=r"jaxes fails in .*no more"):
        peers.measured("", {}, Path(), 3)


def test_a_process_that_hangs_or_fails_is_said(monkeypatch):
    python = Path(sys.executable)
    assert peers.said(python, "-c", "print(1); print(2)") == ("2", None)
    assert peers.said(python, "-c", "raise ValueError('of three')")[1] == "ValueError: of three"
    monkeypatch.setattr(peers, "LIMIT", 0.1)
    hanging = peers.said(python, "-c", "import time; time.sleep(60)")
    assert hanging == ("", "it took more than 0.1 s")


def test_nothing_is_known_of_a_task_where_pip_fails(monkeypatch):
    monkeypatch.setattr(peers, "pip", lambda *_: "no such version")
    assert peers.played("", Path()) == {"runs": None, "error": "no such version"}
