"""Searches settings for the table: sigma, learning rate and network, with seeds that it has not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from table_runs import directories
from table_settings import GRIDS, NETWORKS, SEARCH_SEED, SETTINGS, TASKS, problem_of, strategy_of
from table_train import sweep

from jaxes.report.runs import Sweep, read_sweep
from jaxes.report.tables import Ranked, label, rank
from jaxes.training.identity import read_run

Row = dict[str, Any]


def search(task: str, name: str, folder: Path, steps: int, seeds: int) -> None:
    """A sweep over the strategy's grid for each network, and what was best."""
    for network, hidden in NETWORKS.items():
        if is_finished(folder / network):
            continue
        settings = SETTINGS[task][name]._replace(hidden=hidden)
        problem = problem_of(task, settings.policy, alive_penalty=TASKS[task].alive_penalty)
        strategy = strategy_of(name, settings)
        sweep(
            folder / network,
            problem,
            strategy,
            GRIDS[name],
            steps=steps,
            seeds=seeds,
            seed=SEARCH_SEED,
        )
    for best in ranked([folder / network for network in NETWORKS])[:5]:
        print(f"{task}  {name}  {best['network']:8s} {best['setting']:40s} {best['return']:10.1f}")


def is_finished(path: Path) -> bool:
    return (path / "run.json").exists() and read_run(path)["reason"] == "done"


def ranked(paths: Sequence[Path]) -> list[Row]:
    """The configurations of one strategy's sweeps, the best one first."""
    found = [(path, row) for path in paths for row in rank(read_sweep(path))]
    return sorted(map(_told, *zip(*found, strict=True)), key=lambda row: -row["return"])


def _told(path: Path, row: Ranked) -> Row:
    return {"network": path.name, "setting": label(row.values), "return": round(row.iqm, 1)}


def cost_of(paths: Sequence[Path]) -> Row:
    """Of one strategy's sweeps: what was tried, what it cost, and what was best."""
    sweeps: list[Sweep] = [read_sweep(path) for path in paths]
    runs = [run for each in sweeps for run in each.rows]
    config = read_run(runs[0]["run_dir"])["identity"]["config"]
    return {
        "task": config["environment"]["env_name"],
        "algorithm": config["strategy"]["name"],
        "networks": [path.name for path in paths],
        "configurations": sum(len(each.configurations()) for each in sweeps),
        "seeds": sorted({run["seed"] for run in runs}),
        "env_steps": int(sum(run["env_steps"] for run in runs)),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "best": ranked(paths)[:3],
    }


def collected(root: Path, known: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """All searches, those of a folder in place of earlier ones of the same task and strategy; and
    why directories are left out."""
    found = {(row["task"], row["algorithm"]): row for row in known}
    refused: dict[str, str] = {}
    by_folder: dict[Path, list[Path]] = {}
    for path in directories(root):
        try:
            reason = read_run(path)["reason"]
        except ValueError as error:
            refused[str(path)] = str(error)
            continue
        if reason == "done":
            by_folder.setdefault(path.parent, []).append(path)
        else:
            refused[str(path)] = f"is not finished: its end is {reason!r}"
    for paths in by_folder.values():
        row = cost_of(paths)
        found[row["task"], row["algorithm"]] = row
    return [found[key] for key in sorted(found)], refused


def cost_told(row: Mapping[str, Any]) -> str:
    """In a line."""
    return (
        f"{row['configurations']} settings x {len(row['seeds'])} seeds, "
        f"{row['env_steps'] / 1e6:,.1f} M steps, {row['seconds']:,.0f} s"
    )
