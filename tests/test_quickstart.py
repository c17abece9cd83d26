"""The README's first command with the other strategies: from scratch to solved."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["cma_es", "openai_es"])  # .ci/run has cem
def test_the_quickstart_solves_its_environment(strategy, tmp_path):
    command = [sys.executable, "-m", "jaxes.cli", "train", str(CONFIG), "--json"]
    command += ["--set", f"strategy.name={strategy}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # all of stdout: what people read goes to stderr
    assert summary["return_mean"] >= 9000  # of about 9,350
    assert summary["zero_policy_return"] < 1000
    assert f"jaxes evaluate {summary['run_dir']}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
