"""Rankings, and how they fit a terminal."""

import numpy as np
import pytest
from rich.console import Console
from sweep_runs import table
from written_runs import write_sweep

from jaxes.report.layout import fitted
from jaxes.report.runs import read_sweep
from jaxes.report.tables import label, rank, ranking, short_names
from jaxes.report.tables import text as text_of


def test_report_ranks_by_the_interquartile_mean(finished):
    ranked = rank(read_sweep(finished))
    rows = table(finished)
    for row in ranked:
        returns = [
            float(other["return_mean"])
            for other in rows
            if other["strategy.name"] == row.values["strategy.name"]
            and float(other["strategy.*.sigma"]) == row.values["strategy.*.sigma"]
        ]
        np.testing.assert_allclose(row.iqm, np.mean(returns))  # of two seeds nothing is left out
        assert min(returns) <= row.low <= row.iqm <= row.high <= max(returns)
    assert [row.iqm for row in ranked] == sorted((row.iqm for row in ranked), reverse=True)


def test_fields_go_by_the_shortest_names_that_tell_them_apart():
    fields = ["strategy.name", "policy.name", "strategy.*.sigma", "problem.noise", "model.noise"]
    shorts = ["strategy", "policy", "sigma", "problem.noise", "model.noise"]
    assert list(short_names(fields).values()) == shorts
    values = ["cem", "mlp", 0.1, None, 2]
    assert label(dict(zip(fields, values, strict=True))) == "cem, mlp, sigma=0.1, model.noise=2"


def printed(path, width):
    sweep = read_sweep(path)
    console = Console(width=width)
    with console.capture() as captured:
        labels = [label(row.values) for row in rank(sweep)]
        console.print(fitted(ranking(sweep, rank(sweep)), width, labels))
    return captured.get()


@pytest.fixture
def wide(tmp_path):
    """Of twelve fields, whose names and values are long."""
    names = [f"strategy.openai_es.some_long_field_{i}" for i in range(11)]
    trials = [
        (dict.fromkeys(names, 0.1 + i) | {"strategy.name": f"strategy_{i}"}, seed, [1234.5 + i])
        for i in range(3)
        for seed in range(2)
    ]
    return write_sweep(tmp_path / "sweep", trials)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_breaks_no_word_and_has_no_empty_column(width, wide, finished):
    for path in (wide, finished):
        sweep = read_sweep(path)
        ranked = rank(sweep)
        text = printed(path, width)
        assert max(map(len, text.splitlines())) <= width
        words = set(text.replace("│", " ").replace("┃", " ").split())
        for row in ranked:
            for field, value in row.values.items():
                said, short = text_of(value), short_names(sweep.fields)[field]
                assert value is None or words & {
                    said,
                    f"{said},",
                    f"{short}={said}",
                    f"{short}={said},",
                }
        assert "remarks" not in words
        for column in ranking(sweep, ranked):
            assert set(column.cells) - {"", "-"}


def test_what_a_narrow_terminal_leaves_out_is_said(wide):
    assert "left out for width: zero policy, best, steps" in printed(wide, 70)
    shown = printed(wide, 400)
    assert "left out" not in shown
    assert "zero policy" in shown
