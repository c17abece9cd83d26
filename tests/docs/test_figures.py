"""Figures of README and guides are those of the benchmarks' results."""

import json

import pytest
from scripts import script

figures = script("docs/figures.py")

RESULTS = {
    "mean": -1183.43,
    "steps": 10240000,
    "word": "many",
    "yes": True,
    "nan": float("nan"),
    "rows": [{"name": "cem", "s": 1.0}, {"name": "cem", "s": 9.0}, {"name": "ars", "s": 2.0}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of one guide and one result."""
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "benchmarks" / "results")
    figures.results.cache_clear()
    figures.RESULTS.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No figures.\n")
    (figures.RESULTS / "a-cpu.json").write_text(json.dumps(RESULTS))
    yield tmp_path
    figures.results.cache_clear()


@pytest.mark.parametrize("path", figures.paths(), ids=lambda path: path.name)
def test_text_and_results_agree(path):
    text, differing, unread = figures.redrawn(path.read_text())
    assert (differing, unread) == ([], [])
    assert text == path.read_text()


def test_all_pages_with_figures_are_looked_at():
    texts = {path.name: path.read_text() for path in figures.paths()}
    assert texts.keys() >= {"README.md", "planning.md", "tasks.md", "tetris.md", "hosts.md"}
    assert "decisions.md" not in texts
    assert sum(text.count(".json; ") for text in texts.values()) >= 40


@pytest.mark.parametrize(
    ("source", "figure"),
    [
        ("a-cpu.json; mean; ,.0f", "-1,183"),
        ("a-cpu.json; mean; ,.0f; -1", "1,183"),
        ("a-cpu.json; steps; .1f; 1e-6", "10.2"),
        ("a-cpu.json; rows[?name=='ars'].s; .0%; 0.01", "2%"),
        ("a-cpu.json; median(rows[].s); .2f", "2.00"),
        ("a-cpu.json; max(rows[?name=='cem'].s); .0f", "9"),
    ],
)
def test_a_figure_is_drawn_by_key_format_and_factor(folder, source, figure):
    assert figures.drawn(source) == figure
    for old in ["-7", "7", "1,000.5", "12%", figure]:
        text = f"Line one.\n({old}<!-- {source} --> s) and 2-{figure}."
        new, differing, unread = figures.redrawn(text)
        assert new == f"Line one.\n({figure}<!-- {source} --> s) and 2-{figure}."
        assert unread == []
        assert differing == ([] if old == figure else [f"2: {old} is {figure} in {source}"])


def test_a_hyphen_is_no_sign(folder):
    text, _, unread = figures.redrawn("5-10<!-- a-cpu.json; steps; .1f; 1e-6 -->")
    assert (text, unread) == ("5-10.2<!-- a-cpu.json; steps; .1f; 1e-6 -->", [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5<!-- a-cpu.json; nothing; .0f -->", "nothing is nothing"),
        ("5<!-- a-cpu.json; rows[?name=='x'].s; .0f -->", "is nothing, not one number"),
        ("5<!-- a-cpu.json; rows[?name=='cem'].s; .0f -->", "[1.0, 9.0], not one number"),
        ("5<!-- a-cpu.json; median(rows[?name=='x'].s); .0f -->", "is nothing"),
        ("5<!-- a-cpu.json; word; .0f -->", '"many", not one number'),
        ("5<!-- a-cpu.json; yes; .0f -->", "true, not one number"),
        ("5<!-- a-cpu.json; nan; .0f -->", "NaN, not one number"),
        ("5<!-- a-cpu.json; rows[; .0f -->", "Invalid jmespath expression"),
        ("5<!-- a-cpu.json; median(word); .0f -->", "invalid type"),
        ("5<!-- a-cpu.json; mean; .0q -->", "Unknown format code"),
        ("5<!-- a-cpu.json; mean; .0f; many -->", "could not convert string to float"),
        ("5<!-- a-cpu.json; mean -->", "cannot be read"),
        ("5<!-- measured -->", "cannot be read"),
        ("5<!-- b-cpu.json; mean; .0f -->", "there is no b-cpu.json in benchmarks/results"),
        ("5<!-- ../../README.md; mean; .0f -->", "there is no README.md"),
        ("5 <!-- a-cpu.json; mean; .0f -->", "no figure stands right before"),
        ("many<!-- a-cpu.json; mean; .0f -->", "no figure stands right before"),
    ],
)
def test_what_has_no_number_is_named(folder, text, message):
    new, differing, unread = figures.redrawn(f"One.\n\n{text}")
    assert new == f"One.\n\n{text}"
    assert differing == []
    assert len(unread) == 1
    assert unread[0].startswith("3: ")
    assert message in unread[0]


def test_other_comments_stay(folder):
    text = "<!-- not run: it needs ray -->\n```python\nx = 5\n```\n"
    assert figures.redrawn(text) == (text, [], [])


def test_the_command(folder, capsys):
    guide = folder / "docs" / "guide.md"
    text = "It is 5<!-- a-cpu.json; mean; ,.0f -->.\n"
    guide.write_text(text)
    (folder / "docs" / "decisions.md").write_text(text)  # a dated record

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            figures.main(arguments)
        return end.value.code, capsys.readouterr().out

    code, said = run("--check")
    assert (code, said) == (
        1,
        "docs/guide.md:1: 5 is -1,183 in a-cpu.json; mean; ,.0f\nfigures looked at: 1\n",
    )
    assert guide.read_text() == text
    assert run()[0] == 0
    assert guide.read_text() == "It is -1,183<!-- a-cpu.json; mean; ,.0f -->.\n"
    assert run("--check") == (0, "figures looked at: 1\n")
    guide.write_text(text.replace("mean", "median"))
    assert run()[0] == 1
    assert (folder / "docs" / "decisions.md").read_text() == text
