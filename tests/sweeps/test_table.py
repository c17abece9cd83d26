"""Tables of a sweep's results, and which configuration is best."""

import numpy as np
import pyarrow.parquet
from sweep_runs import rows_of, run, table, write


def test_tables_have_a_row_a_trial_with_all_that_was_swept(finished):
    rows = table(finished)
    assert [int(row["trial"]) for row in rows] == list(range(8))
    assert [row["seed"] for row in rows] == ["0", "1"] * 4
    assert {row["strategy.*.sigma"] for row in rows} == {"0.1", "1.0"}
    assert [row["strategy.openai_es.learning_rate"] for row in rows] == [""] * 4 + ["0.3"] * 4
    parquet = pyarrow.parquet.read_table(finished / "results.parquet").to_pylist()
    assert [row["return_mean"] for row in parquet] == [float(row["return_mean"]) for row in rows]
    assert parquet[0]["strategy.openai_es.learning_rate"] is None


def test_best_is_the_config_of_the_best_mean_over_seeds(finished, tmp_path):
    rows = table(finished)
    means = [np.mean([float(row["return_mean"]) for row in rows[i : i + 2]]) for i in (0, 2, 4, 6)]
    best = rows[2 * int(np.argmax(means))]
    run("train", finished / "best.yaml", "--run-dir", tmp_path / "best")
    ours = rows_of(finished / "trials" / f"{int(best['trial']):04d}")[-1]
    np.testing.assert_allclose(
        rows_of(tmp_path / "best")[-1]["test/return_mean"], ours["test/return_mean"], rtol=1e-6
    )


def test_where_all_diverge_there_is_no_best_one(tmp_path, capsys):
    path = write(
        tmp_path / "sweep.yaml",
        strategy={"name": "openai_es", "population_size": 16},
        sweep={
            "grid": {"strategy.openai_es.learning_rate": [1e38, 1e37]},
            "halving": {"generations": [4]},
        },
    )
    run("sweep", path, "--run-dir", tmp_path / "run")
    assert [row["status"] for row in table(tmp_path / "run")] == ["diverged"] * 2
    assert not (tmp_path / "run" / "best.yaml").exists()
    assert "all trials diverged" in capsys.readouterr().out
    run("report", tmp_path / "run")
