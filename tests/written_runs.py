"""Directories of runs and sweeps, written by hand: what reports and watchers read."""

import json

import yaml

from jaxes.sweeps.table import write_tables

CONFIG = {
    "environment": {"name": "brax", "env_name": "hopper"},
    "policy": {"name": "mlp", "hidden": [32, 32]},
    "problem": {"episode_length": 1000},
    "strategy": {"name": "cem", "population_size": 64, "cem": {"sigma": 0.5}},
    "training": {"num_generations": 10, "test_every": 2},
}


def row(generation, test=None, ci95=1.0, **more):
    """A generation of 500 environment steps in a quarter of a second, whose population has half of
    the return that its test has."""
    made = {"generation": generation, "return/mean": 0.5 * generation, "fitness/mean": 1.0}
    made |= {"rollout/env_steps": 500, "time/seconds": 0.25}
    if test is not None:
        made |= {"test/return_mean": test, "test/return_std": 2.0, "test/return_ci95": ci95}
        made |= {"test/diverged": 0, "test/truncated": 0, "test/episode_length": 40.0}
    return made | more


def rows_of(tests, every=2):
    """Generations with a test after every second one; None is one in which an episode diverged."""
    made = []
    for test in tests:
        made += [row(len(made) + i) for i in range(1, every)]
        made.append(row(len(made) + 1, 9e9 if test is None else test))
        made[-1]["test/diverged"] = int(test is None)
    return made


def config_with(**fields):
    """CONFIG with fields by paths, `strategy__cem__sigma=1.0`."""
    config = json.loads(json.dumps(CONFIG))
    for path, value in fields.items():
        *sections, last = path.split("__")
        inner = config
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return config


def append(path, rows):
    with (path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_run(path, rows=(), config=CONFIG, seed=0, **about):
    """A run; `config=None` is one that no config can say."""
    path.mkdir(parents=True)
    sections = {name: part for name, part in (config or {}).items() if name != "training"}
    identity = {"seed": seed, "population_size": 64, "config": sections}
    identity |= {"strategy": {"sigma": 0.5}, "problem": {"discount": 1.0}}
    run = {"format": 2, "id": f"id-{path}", "identity": identity, "jax": "0.10.2", "devices": "cpu"}
    (path / "run.json").write_text(json.dumps(run | about))
    if config is not None:
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    append(path, rows)
    return path


def write_sweep(path, trials, finished=True, halving=None):
    """A sweep of trials `(values, seed, tests)`; see `rows_of` for tests."""
    path.mkdir(parents=True)
    said = {"sweep": [[seed, values] for values, seed, _ in trials], "halving": halving}
    run = {"format": 2, "id": f"id-{path}", "identity": said, "jax": "0.10.2", "devices": "cpu"}
    (path / "run.json").write_text(json.dumps(run))
    names = dict.fromkeys(name for values, _, _ in trials for name in values)
    table = []
    for i, (values, seed, tests) in enumerate(trials):
        write_run(path / "trials" / f"{i:04d}", rows_of(tests), seed=seed)
        last = tests[-1] if tests else None
        line = {"trial": i, "seed": seed} | {name: values.get(name) for name in names}
        line |= {"status": "diverged" if last is None else "done", "generation": 2 * len(tests)}
        line |= {"score": float("-inf") if last is None else last, "return_mean": last}
        line |= {"return_ci95": 1.0, "episode_length": 40.0, "zero_policy_return": 0.25}
        line |= {"env_steps": 1000 * len(tests), "seconds": 0.5 * len(tests)}
        table.append(line)
    if finished:
        write_tables(path, table)
    return path
