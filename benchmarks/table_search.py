"""Searches settings for the table: sigma, learning rate and network, with seeds that it has not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from table_runs import problem_settings
from table_settings import GRIDS, NETWORKS, SEARCH_SEED, SETTINGS, TASKS, problem_of, strategy_of
from table_train import check_settings, sweep

from jaxes.report.runs import Sweep, read_sweep
from jaxes.report.tables import Ranked, label, rank
from jaxes.training.identity import read_run

Row = dict[str, Any]


def search(
    task: str, name: str, folder: Path, steps: int, seeds: int, networks: Sequence[str]
) -> None:
    """A sweep over the strategy's grid for each network, and what was best."""
    for network in networks:
        settings = SETTINGS[task][name]._replace(hidden=NETWORKS[network])
        problem = problem_of(task, settings.policy, alive_penalty=TASKS[task].alive_penalty)
        strategy = strategy_of(name, settings)
        if is_finished(folder / network):
            check_settings(folder / network, problem, strategy, seeds, GRIDS[name])
            spent = min(row["env_steps"] for row in read_sweep(folder / network).rows)
            if spent < steps:
                raise SystemExit(f"{folder / network} has {spent:,} steps: choose another --runs")
            continue
        sweep(
            folder / network,
            problem,
            strategy,
            GRIDS[name],
            steps=steps,
            seeds=seeds,
            seed=SEARCH_SEED,
        )
    for best in ranked([folder / network for network in networks])[:5]:
        print(f"{task}  {name}  {best['network']:8s} {best['setting']:40s} {best['return']:10.1f}")


def is_finished(path: Path) -> bool:
    return (path / "run.json").exists() and read_run(path)["reason"] == "done"


def ranked(paths: Sequence[Path]) -> list[Row]:
    """The configurations of one strategy's sweeps, the best one first."""
    found = [(path, row) for path in paths for row in rank(read_sweep(path))]
    return sorted(map(_told, *zip(*found, strict=True)), key=lambda row: -row["return"])


def _told(path: Path, row: Ranked) -> Row:
    return {"network": path.name, "setting": label(row.values), "return": round(row.iqm, 1)}


def cost_of(path: Path) -> Row:
    """Of the sweep over one network: what was tried, what it cost, and what was best.

    Raises:
      ValueError: it is cut or damaged, or has seeds that the table has.
    """
    about = read_run(path)
    if about["reason"] != "done":
        raise ValueError(f"is not finished: its end is {about['reason']!r}")
    found: Sweep = read_sweep(path)
    config = read_run(found.rows[0]["run_dir"])["identity"]["config"]
    seeds = sorted({run["seed"] for run in found.rows})
    if seeds[0] < SEARCH_SEED:
        raise ValueError(f"has seeds of the table: {seeds}")
    numbers = config["strategy"][config["strategy"]["name"]]
    return {
        "id": about["id"],
        "task": config["environment"]["env_name"],
        "algorithm": config["strategy"]["name"],
        "network": path.name,
        "settings": {
            "policy": config["policy"],
            "problem": problem_settings(config),
            "population_size": config["strategy"]["population_size"],
        },
        "tried": [numbers | values for values, _ in found.configurations()],
        "seeds": seeds,
        "env_steps": int(sum(run["env_steps"] for run in found.rows)),
        "seconds": round(sum(run["seconds"] for run in found.rows), 1),
        "best": [_told(path, row) for row in rank(found)[:3]],
    }


def collected(paths: Sequence[Path], known: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """All searches, each of them once; and why some of these directories are left out."""
    found = {row["id"]: row for row in known}
    refused: dict[str, str] = {}
    for path in paths:
        try:
            row = cost_of(path)
            found[row["id"]] = row
        except (ValueError, LookupError, TypeError) as error:
            refused[str(path)] = str(error)
    by_name = lambda row: (row["task"], row["algorithm"], row["network"], row["id"])  # noqa: E731
    return sorted(found.values(), key=by_name), refused


def found_by(settings: Mapping[str, Any], task: str, searches: Sequence[Row]) -> str:
    """In a line, where the settings of a row were tried, and what was searched on its task.

    Args:
      searches: those of its strategy, on all tasks.
    """
    there = dict.fromkeys(row["task"] for row in searches if _tried(settings, row))
    mine = [row for row in searches if row["task"] == task]
    if task in there:
        return _cost(mine)
    origin = f"tried on {', '.join(there)}" if there else "given"
    return f"{origin}; searched here: {_cost(mine)}" if mine else origin


def _cost(searches: Sequence[Row]) -> str:
    tried = sum(len(row["tried"]) for row in searches)
    counts = [len(row["seeds"]) for row in searches]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    steps, seconds = (sum(row[name] for row in searches) for name in ("env_steps", "seconds"))
    return f"{tried} settings x {seeds} seeds, {steps / 1e6:,.1f} M steps, {seconds:,.0f} s"


def _tried(settings: Mapping[str, Any], search: Row) -> bool:
    numbers = {"numbers": settings["numbers"]}
    return settings == search["settings"] | numbers and settings["numbers"] in search["tried"]
