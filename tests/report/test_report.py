"""Rankings, tables and pictures of a sweep."""

import numpy as np
from sweep_runs import run, table

from jaxes.report.plots import draw
from jaxes.report.tables import rank, read_sweep


def test_report_ranks_by_the_interquartile_mean(finished, capsys):
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
    run("report", finished)
    said = capsys.readouterr().out
    assert "returns.png" in said
    assert "parallel_coordinates.png" in said


def test_two_fields_are_a_heat_map(finished, tmp_path):
    sweep = read_sweep(finished)
    sweep = sweep._replace(fields=sweep.fields[:2])
    paths = draw(sweep, rank(sweep), tmp_path)
    assert [path.name for path in paths] == ["returns.png", "heat_map.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)
