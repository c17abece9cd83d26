"""The site: its API is complete, its tables are those of the results, and it needs no network."""

import importlib
import inspect
import json
import re
import subprocess
import sys

import pytest
from scripts import ROOT, script

import jaxes

api = script("docs/hooks/api.py")
benchmarks = script("docs/hooks/benchmarks.py")
offline = script("docs/hooks/offline.py")
repository = script("docs/hooks/repository.py")


# The API.


def entries():
    """Where a public name is defined, by the name."""
    pattern = r"^::: (\S+)\n    options: {heading: ([\w.]+),"
    found = re.findall(pattern, "\n".join(api.pages().values()), re.MULTILINE)
    return {public: place for place, public in found}


def value_of(dotted):
    """What a dotted name of jaxes is; modules on the way are imported."""
    value = jaxes
    for name in dotted.split(".")[1:]:
        if inspect.ismodule(value) and not hasattr(value, name):
            importlib.import_module(f"{value.__name__}.{name}")
        value = getattr(value, name)
    return value


def test_every_public_name_is_on_a_page():
    assert set(jaxes.STRATEGIES) <= set(jaxes.__all__)
    public = {f"jaxes.{name}" for name in jaxes.__all__}
    for module in ("planning", "problems", "environments", "randomize", "tetris"):
        exported = importlib.import_module(f"jaxes.{module}").__all__
        public |= {f"jaxes.{module}.{name}" for name in exported}
    public |= {"jaxes.gaussian.sobol", "jaxes.weights.utilities", "jaxes.policies.Policy"}
    public |= {"jaxes.problems.functions.rastrigin", "jaxes.trials.vmapped_into_one_queue"}
    pages = api.pages()
    for name in sorted(public):
        if inspect.ismodule(value_of(name)):
            assert f"# {name}\n" in pages[f"{name}.md"]
        else:
            text = "\n".join(pages.values())
            assert f"{{heading: {name}, " in text or f"\n## {name}\n\nIt is [" in text, name


def test_an_entry_is_of_the_object_of_its_name():
    assert len(entries()) > 100
    for public, place in entries().items():
        module, _, name = place.rpartition(".")
        assert getattr(sys.modules[module], name) is value_of(public)


def test_every_public_function_and_class_says_what_it_is():
    for public in entries():
        value = value_of(public)
        made = "<locals>" in getattr(value, "__qualname__", "")  # by another function, in one line
        if (inspect.isfunction(value) and not made) or inspect.isclass(value):
            doc = value.__doc__ or ""
            assert len(doc) > 20, public
            assert not doc.startswith(f"{value.__name__}("), public  # a NamedTuple's own


def test_names_are_those_of_the_source_where_all_is_not_said(tmp_path, monkeypatch):
    source = "import json\nA = 1\nB: int = 2\n_C = 3\ndef f(): 0\nclass D: 0\ndef _g(): 0\n"
    (tmp_path / "some_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert api.names(importlib.import_module("some_module")) == ["A", "B", "f", "D"]


def test_what_pages_name_is_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for path in pages for name in re.findall(r"\bjaxes(?:\.\w+)+", path.read_text())}
    assert len(named) > 40
    for name in sorted(named):
        value_of(name)


# The benchmarks.


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of a result that is made here."""
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmarks, "ROOT", ROOT)

    def make(**data):
        path = tmp_path / "tetris-cem-cpu.json"
        machine = {"processor": "a <b>", "cores": 2, "device": "cpu", "jax": "0.10.2"}
        path.write_text(json.dumps({"machine": machine} | data))
        return benchmarks.page(path)

    return make


def table(text):
    """The rows of a page's first table, its head included."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if line[0] != "---"]


def test_every_result_has_a_page_with_its_question_machine_and_rows():
    results = sorted(benchmarks.RESULTS.glob("*.json"))
    assert len(results) >= 20
    for path in results:
        text = benchmarks.page(path)
        assert benchmarks.escaped(benchmarks.question(path)) in text
        assert json.loads(path.read_text())["machine"]["device"] in text
        assert len(table(text)) > 1
        assert len(text) < 50_000  # a page, no record of everything
    planning = benchmarks.page(benchmarks.RESULTS / "planning-cpu.json")
    assert re.search(r"\| cem 40 x 3 \| -\d", planning)


def test_the_script_of_a_result_is_the_one_with_the_longest_name():
    names = {
        "tetris-cem-cpu": "tetris_cem",
        "tetris-gpu": "tetris",
        "vs-commit-part6-cpu": "vs_commit",
    }
    for results, name in names.items():
        assert benchmarks.script(benchmarks.RESULTS / f"{results}.json").stem == name
    with pytest.raises(ValueError, match="is of no script in benchmarks/"):
        benchmarks.script(benchmarks.RESULTS / "no-such-cpu.json")


def test_values_as_cells(page):
    row = {
        "name": "a|b_c",
        "met": True,
        "bar": None,
        "count": 12345,
        "seconds": 0.123456,
        "rate": 4769363.4,
        "interval": [-1.0, 2.5],
        "evaluations": [3, 1, None, 2],
        "nested": {"mean": 1.5},
        "deep": [[1, 2], [3, 4]],
        "long": "x" * 100,
    }
    text = page(rows=[row], curves={"a": [{"x": 1}]})
    head, cells = table(text)
    assert dict(zip(head, cells, strict=True)) == {
        "name": "a&#124;b&#95;c",
        "met": "yes",
        "bar": "–",
        "count": "12,345",
        "seconds": "0.1235",
        "rate": "4,769,363",
        "interval": "-1 / 2.5",
        "evaluations": "2 (median of 3, 1 without)",
        "nested mean": "1.5",
    }
    assert "Left out, and in the file: curves, deep, long." in text
    assert "**processor** a &#60;b&#62; · **cores** 2" in text


def test_lists_of_words_are_shown(page):
    options = {"peers": ["brax", "evosax"], "lanes": [128, 512], "repeats": 3}
    text = page(rows=[{"x": 1}], parts=["hand", "restarts"], options=options)
    assert "**parts** hand, restarts" in text
    assert "**options peers** brax, evosax · **options lanes** 128 / 512" in text
    assert "Left out" not in text


def test_the_index_says_where_it_was_measured():
    text = benchmarks.index(sorted(benchmarks.RESULTS.glob("*.json")))
    assert "| 2&nbsp;cores&nbsp;of&nbsp;" in text
    assert "| 1&nbsp;x&nbsp;NVIDIA&nbsp;H200 |" in text


def test_rows_of_a_kind_have_a_table(page):
    rows = [{"part": part, "x": x} for part in "ab" for x in range(4)]
    text = page(rows=rows)
    assert re.findall("^## (.*)$", text, re.MULTILINE) == ["a", "b", "What was measured"]
    assert table(text)[:2] == [["x"], ["0"]]
    assert "## rows" in page(rows=rows[:2])  # too few to be told apart


def test_many_rows_are_counted(page):
    rows = [{"seed": i, "how": "cut" if i % 3 else "zeroed", "s": i / 2} for i in range(60)]
    assert table(page(rows=rows)) == [
        ["how", "rows", "s (median)"],
        ["cut", "40", "15"],
        ["zeroed", "20", "14.25"],
    ]


# Links, and the network.


def test_links_that_leave_docs_lead_to_pages():
    guide = ROOT / "docs" / "hosts.md"
    others = "[b](sweeps.md) [c](https://a.b) [d](#y) [e](../nothing.md)"
    text = repository.relinked(f"[a](../examples/README.md#x) {others}", guide)
    assert text == f"[a](repository/examples/README.md#x) {others}"
    text = repository.relinked("[a](docs/sweeps.md) [b](jaxes/core.py)", ROOT / "README.md")
    assert text == "[a](sweeps.md) [b](repository/jaxes/core.py.md)"
    text = repository.relinked("[a](../docs/hosts.md)", ROOT / "examples" / "README.md")
    assert text == "[a](../../hosts.md)"
    assert {ROOT / "jaxes/core.py", ROOT / "examples/tpu_pod.sh"} <= set(repository.outside())


@pytest.mark.parametrize(
    ("suffix", "text", "address"),
    [
        (".html", '<script src="https://a.b/c.js"></script>', "https://a.b/c.js"),
        (".html", '<link rel="stylesheet" href="//a.b/c.css">', "//a.b/c.css"),
        (".html", '<img srcset="a.png 1x, https://a.b/c.png 2x">', "https://a.b/c.png 2x"),
        (".html", '<p style="background: url(http://a.b/c.png)">', "http://a.b/c.png"),
        (".html", '<a href="https://a.b" style="src: url(//a.b/c.png)">', "//a.b/c.png"),
        (".html", "<style>@import 'https://a.b/c.css';</style>", "https://a.b/c.css"),
        (".svg", '<svg><image xlink:href="http://a.b/c.png"/></svg>', "http://a.b/c.png"),
        (".css", 'a { src: url("https://a.b/c.woff2") }', "https://a.b/c.woff2"),
        (".css", "@import url(//a.b/c.css);", "//a.b/c.css"),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_noticed(tmp_path, suffix, text, address):
    assert offline.from_elsewhere(text, suffix) == [address]
    (tmp_path / f"page{suffix}").write_text(text)
    assert list(offline.faults(tmp_path)) == [f"page{suffix} loads {address}"]


def test_what_a_page_has_itself_is_fine():
    page = """<a href="https://a.b">read</a> <img src="c.png"> <svg><use href="#d"/></svg>
    <script src="../assets/e.js"></script> <img src="data:image/png;base64,//aa">
    <style>b {}</style> <p>@import https://a.b</p> <link rel="canonical" href="https://a.b/c/">"""
    assert offline.from_elsewhere(page, ".html") == []
    assert offline.from_elsewhere("a { src: url(../b.woff2) } /* https://a.b */", ".css") == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    assert {"api/strategies/#jaxes.strategies.cem.cem", "benchmarks/tasks-cpu/", "hosts/"} <= found
    assert 'src="assets/mathjax.js"' in (tmp_path / "index.html").read_text()
    assert (tmp_path / "assets" / "mathjax.js").stat().st_size > 2_000_000
