"""The page of runs and sweeps: what is in it, and that nothing is fetched for it."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from sweep_runs import run, table
from written_runs import append, config_with, rows_of, write_run, write_sweep

from jaxes import cli
from jaxes.report import films
from jaxes.report.curves import curve_of
from jaxes.report.pictures import MOST_CURVES, pictures
from jaxes.report.runs import read, read_sweep
from jaxes.report.tables import rank

NAMES = ("src", "href", "xlink:href", "data", "action", "poster", "srcset")
ALONE = {"meta", "link", "img", "input", "br", "hr", "source"}  # tags that are not closed


class Page(HTMLParser):
    """What a page says, and what it points to."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text()
        self.words, self.links, self.tags, self.open = [], [], [], []
        self.feed(self.html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in NAMES]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open = self.open[:-1] if tag not in ALONE else self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())


def page_of(*arguments, output):
    run("report", *arguments, "--no-films")
    return Page(output)


@pytest.fixture
def sweep(tmp_path):
    """Of three configurations and two seeds; the first has no value of the second field, the last
    diverges with one of its seeds, and a field is the same for all."""
    cem, es = {"strategy.name": "cem"}, {"strategy.name": "openai_es", "strategy.*.rate": 0.125}
    trials = [
        (cem | {"problem.scale": 7}, 0, [1.0, 2.0, 3.0]),
        (cem | {"problem.scale": 7}, 1, [2.0, 3.0, 5.0]),
        (es | {"problem.scale": 7}, 0, [1.0, 1.0, 1.5]),
        (es | {"problem.scale": 7}, 1, [1.0, 1.0, 2.5]),
        (es | {"strategy.*.rate": 0.25, "problem.scale": 7}, 0, [1.0, 2.0]),
        (es | {"strategy.*.rate": 0.25, "problem.scale": 7}, 1, [1.0, None]),
    ]
    return write_sweep(tmp_path / "sweep", trials)


def test_a_page_opens_without_a_network(sweep):
    page = page_of(sweep, output=sweep / "report.html")
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"@import|url\((?!#)", page.html)


def test_a_page_holds_each_trial_and_value_of_a_sweep(finished, tmp_path):
    page = page_of(finished, "--output", tmp_path / "page.html", output=tmp_path / "page.html")
    assert page.words[0] == page.words[1] == "sphere by cem, openai_es"
    ranked = rank(read_sweep(finished))
    for row in table(finished):
        assert f"{int(row['trial']):04d}" in page.words
        assert any(f"{float(row['return_mean']):.4g}" in word for word in page.words)
    for row in ranked:
        assert f"{row.iqm:.4g}" in page.words
    assert {"sigma", "learning_rate", "strategy", "0.1", "1", "0.3"} < set(page.words)
    assert any("num_dims: 5" in word and "num_seeds: 2" in word for word in page.words)
    assert {"jax", "devices", "format"} < set(page.words)


def test_returns_of_configurations_stand_beside_each_other(sweep):
    page = page_of(sweep, output=sweep / "report.html")
    assert "best return 4 (95 %: 3 to 5) with cem; zero policy 0.25" in page.words
    assert "cem (2 seeds)" in page.words
    assert "openai_es, rate=0.125 (2 seeds)" in page.words
    assert "zero policy: 0.25" in page.words
    assert "1 diverged, not above the zero policy" in page.words
    assert "problem.scale" not in page.html
    assert "scale" not in page.words
    assert "rate=-" not in page.html


def test_a_curve_has_the_numbers_of_its_seeds():
    """By hand, as far as all seeds were tested; of two seeds the mean is the interquartile mean."""
    seeds = [rows_of([1.0, 2.0, 9.0, 4.0]), rows_of([3.0, 6.0, None])]
    curve = curve_of(seeds, "test/return_mean", "environment steps")
    np.testing.assert_allclose(curve.x, [1000, 2000, 3000])
    np.testing.assert_allclose(curve.middle, [2.0, 4.0, np.nan])
    np.testing.assert_allclose(curve.low, [1.0, 2.0, np.nan])
    np.testing.assert_allclose(curve.high, [3.0, 6.0, np.nan])
    alone = curve_of(seeds[:1], "test/return_mean", "generation")
    np.testing.assert_allclose(alone.x, [2, 4, 6, 8])
    np.testing.assert_allclose(alone.high - alone.middle, 1.0)
    population = curve_of(seeds[:1], "return/mean", "generation")
    np.testing.assert_allclose(population.middle, 0.5 * np.arange(1, 9))


def test_a_run_alone_shows_its_population_and_what_its_run_json_says(tmp_path):
    path = write_run(tmp_path / "run", rows_of([1.0, 2.0, 3.0]), started="noon", jaxes="0.1.0")
    page = page_of(path, output=path / "report.html")
    assert page.words[1] == "hopper by cem"
    assert "mean policy" in page.words
    assert "population, in episodes of its own" in page.words
    assert {"started", "noon", "jaxes", "0.1.0"} < set(page.words)
    assert {"3 ± 1", "3,000", "1.5", "2,000", "unfinished"} < set(page.words)


def test_runs_that_differ_by_their_seeds_are_one_curve(tmp_path):
    runs = [
        write_run(tmp_path / "a", rows_of([1.0, 2.0]), seed=0),
        write_run(tmp_path / "b", rows_of([3.0, 4.0]), seed=1),
        write_run(tmp_path / "c", rows_of([5.0, 5.0]), config_with(strategy__cem__sigma=1.0)),
    ]
    read_together = read(runs)
    assert read_together.fields == ["strategy.cem.sigma"]
    ranked = rank(read_together)
    assert [(row.values["strategy.cem.sigma"], row.iqm) for row in ranked] == [(1.0, 5), (0.5, 3)]
    output = tmp_path / "page.html"
    page = page_of(*runs, "--output", output, output=output)
    assert {"sigma=1", "sigma=0.5 (2 seeds)", "a", "b", "c"} < set(page.words)


def test_runs_that_have_little_in_common_go_by_their_names(tmp_path):
    other = {
        "problem": {"name": "sphere", "num_dims": 5},
        "strategy": {"name": "cma_es", "population_size": 8, "cma_es": {"sigma": 0.5}},
    }
    runs = [
        write_run(tmp_path / "walks", rows_of([1.0])),
        write_run(tmp_path / "falls", rows_of([2.0]), other),
        write_run(tmp_path / "unknown", rows_of([0.5]), config=None),
        write_run(tmp_path / "untested", [], config=None, seed=1),
    ]
    output = tmp_path / "page.html"
    page = page_of(*runs, "--output", output, output=output)
    assert page.words[1] == "hopper, sphere by cem, cma_es"
    for name in ("walks", "falls", "unknown", "problem.num_dims", "strategy.cma_es.sigma"):
        assert name in page.words
    assert "best return 2 with falls" in page.words


def test_trials_of_a_planner_are_drawn_one_by_one(tmp_path):
    config = {
        "environment": {"name": "pendulum"},
        "planner": {"strategy": {"name": "cem"}, "horizon": 5},
        "training": {"num_trials": 3},
    }
    rows = [row | {"plan/best": 1.0} for row in rows_of([1.0], every=3)]
    page = page_of(
        write_run(tmp_path / "run", rows, config), output=tmp_path / "run" / "report.html"
    )
    assert page.words[1] == "pendulum by planning with cem"
    assert {"trial", "trials", "done"} < set(page.words)


@pytest.mark.parametrize("config", [None, config_with()])
def test_a_run_without_a_test_has_a_page(tmp_path, config):
    path = write_run(tmp_path / "run", rows_of([])[:1], config)
    page = page_of(path, output=path / "report.html")
    assert page.words[1] == ("hopper by cem" if config else "run")
    assert "no return: nothing was tested without divergence" in page.words


def test_names_are_escaped(tmp_path):
    evil = "<script>alert('$x_1$')</script> & \"more\""
    trials = [({"policy.name": evil, "a.b": i, "a.c": i}, 0, [float(i)]) for i in range(3)]
    path = write_sweep(tmp_path / "<b>sweep", trials)
    (path / "config.yaml").write_text(f"policy: {{name: {json.dumps(evil)}}}")
    page = page_of(path, output=path / "report.html")
    assert not {"script", "b"} & set(page.tags)
    trials = [({"policy.name": f"{evil}{i}", "a.b": i}, 0, [float(i)]) for i in range(2)]
    page = page_of(
        write_sweep(tmp_path / "other", trials), output=tmp_path / "other" / "report.html"
    )
    assert not {"script", "b"} & set(page.tags)
    assert f"{evil}1, b=1" in page.words
    assert f"{evil}1" in page.words  # of the heat map's axis: no mathematics is made of it


@pytest.mark.parametrize("count", [1, 10, 30])
def test_curves_are_told_apart_and_those_left_out_are_named(tmp_path, count):
    trials = [({"sigma": i / 8}, 0, [float(i)]) for i in range(count)]
    sweep = read_sweep(write_sweep(tmp_path / "sweep", trials))
    curves = pictures(sweep, rank(sweep))[0]
    drawn = [entry for entry in curves.legend if "policy: " not in entry.name]
    looks = [(entry.color, entry.dashes) for entry in drawn if entry.width > 1]
    assert len(looks) == len(set(looks)) == min(count, 10)
    assert len({color for color, _ in looks}) == len(looks)
    for color, _ in looks:
        assert f"stroke: {color}" in curves.svg
    assert len(curves.hidden) == max(count - MOST_CURVES, 0)
    if count == 30:
        assert drawn[0].name == "sigma=3.625"
        assert curves.hidden[0] == "sigma=2.375"


@pytest.mark.parametrize("fields", [1, 2, 3])
def test_a_sweep_in_which_all_diverged_has_a_page(tmp_path, fields):
    names = ["a", "b", "c"][:fields]
    trials = [(dict.fromkeys(names, float(i)), 0, [None]) for i in range(2)]
    path = write_sweep(tmp_path / "sweep", trials)
    page = page_of(path, output=path / "report.html")
    assert page.words.count("-inf") >= 2
    assert page.tags.count("figure") == min(fields, 2)


def test_a_sweep_that_goes_on_is_ranked_by_what_it_came_to(tmp_path):
    trials = [({"sigma": 0.1}, 0, [1.0, 2.0]), ({"sigma": 0.2}, 0, [3.0]), ({"sigma": 0.3}, 0, [])]
    path = write_sweep(tmp_path / "sweep", trials, finished=False)
    ranked = rank(read_sweep(path))
    assert [row.values["sigma"] for row in ranked] == [0.2, 0.1, 0.3]
    page = page_of(path, output=path / "report.html")
    assert "best return 3 with sigma=0.2" in page.words
    assert page.words.count("1 unfinished") == 3


def test_of_a_sweep_among_runs_each_trial_counts(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [({"sigma": 0.1}, i, [1.0]) for i in range(3)])
    alone = write_run(tmp_path / "alone", rows_of([1.0]), seed=7)
    assert [row["seed"] for row in read([sweep, alone, alone]).rows] == [0, 1, 2, 7]


def test_nothing_but_an_earlier_page_of_the_same_runs_is_replaced(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_run(tmp_path / name, rows_of([1.0]))
    page_of("a", output=tmp_path / "a" / "report.html")
    append(tmp_path / "a", rows_of([1.0, 42.0])[2:])
    assert "42 ± 1" in page_of("a", output=tmp_path / "a" / "report.html").words
    page_of("a", "b", output=tmp_path / "report.html")
    page_of("b", "a", output=tmp_path / "report.html")
    (tmp_path / "notes.html").write_text("mine")
    before = (tmp_path / "report.html").read_text()
    capsys.readouterr()
    for arguments, said in [
        (["a", "--output", "notes.html"], "notes.html exists and is no report of the same runs"),
        (["a", "--output", "report.html"], "report.html exists and is no report of the same"),
        (["a", "--output", "b"], "b exists and is no report of the same runs"),
        (["a", "--output", "none/page.html"], "there is no folder none"),
        (["none"], "run: there is no directory none"),
        (["a", "none"], "run: there is no directory none"),
        (["."], "holds no run (no run.json in it)"),
    ]:
        assert cli.main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert (tmp_path / "notes.html").read_text() == "mine"
    assert (tmp_path / "report.html").read_text() == before


def test_films_are_part_of_the_page_or_say_why_not(tmp_path, monkeypatch):
    class Render:
        @staticmethod
        def film_of(run):
            if run.name == "b":
                raise ValueError("it cannot be filmed <here>")
            return SimpleNamespace(episode_return=12.5, length=40)

        @staticmethod
        def encoded(film, kind):
            return kind.encode()

    runs = [write_run(tmp_path / name, rows_of([1.0])) for name in "abcde"]
    monkeypatch.setattr(films, "render", Render)
    output = tmp_path / "page.html"
    run("report", *runs, "--output", output)
    page = Page(output)
    assert page.links.count("data:video/mp4;base64,bXA0") == page.tags.count("video") == 3
    assert "return 12.5 in 40 steps" in page.words
    assert "no film: it cannot be filmed <here>" in page.words
