"""A small sweep of a plain function, by the command line, and how its files are read."""

import csv
import json

import numpy as np
import yaml

from jaxes import cli

CONFIG = {
    "problem": {"name": "sphere", "num_dims": 5},
    "strategy": {"name": "cem", "population_size": 16, "cem": {"sigma": 0.5}},
    "training": {"num_generations": 12, "test_every": 4, "checkpoint_every": 4},
    "sweep": {
        "explicit": [
            {"strategy.name": "cem"},
            {"strategy.name": "openai_es", "strategy.openai_es.learning_rate": 0.3},
        ],
        "grid": {"strategy.*.sigma": [0.1, 1.0]},
        "num_seeds": 2,
    },
}


def write(path, **changes):
    path.write_text(yaml.safe_dump(CONFIG | changes))
    return str(path)


def run(*arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def table(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows_of(folder):
    """The metrics of a run, but for what a clock says."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "time/seconds"}
        for line in lines
    ]
