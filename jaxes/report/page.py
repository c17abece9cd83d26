"""One HTML page that holds all of a report, and opens anywhere: nothing in it is fetched."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxes.report.films import Shown
from jaxes.report.pictures import pictures
from jaxes.report.runs import Sweep, is_sweep, names_of, told_by_name
from jaxes.report.tables import (
    Ranked,
    all_runs,
    differences,
    label,
    named_tests,
    number,
    ranking,
)
from jaxes.training.identity import read_run
from jaxes.training.metrics import is_finite

MOST_FILMS = 4
MOST_CONFIGS = 10
MOST_NAMES = 3  # in the heading
HEAD_BYTES = 1000  # within which a page says of what it is


def page_of(
    paths: Sequence[Path], sweep: Sweep, ranked: Sequence[Ranked], films: Sequence[Shown]
) -> str:
    """The page of runs or a sweep: HTML."""
    import jinja2

    best_run = best_of(sweep, ranked[0])["run_dir"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        mark=mark_of(paths),
        title=title_of(sweep),
        best=_best(ranked),
        paths=[str(path) for path in paths],
        films=films,
        pictures=pictures(sweep, ranked),
        ranking=sorted(ranking(sweep, ranked), key=lambda column: column.kind != "result"),
        tests=named_tests(told_by_name(best_run)),
        best_run=best_run.resolve().name,
        runs=all_runs(sweep),
        differences=[] if sweep.fields == sweep.differences else differences(sweep),
        configs=_configs(paths, sweep, ranked),
        versions=_versions(paths),
    )


def to_film(paths: Sequence[Path], sweep: Sweep, ranked: Sequence[Ranked]) -> dict[str, Path]:
    """The best run of a sweep, or each of the first runs, by what a film of it is called."""
    if len(paths) == 1:
        row = best_of(sweep, ranked[0])
        return {label(ranked[0].values) or "the policy": row["run_dir"]}
    runs = [row["run_dir"] for row in sweep.rows[:MOST_FILMS]]
    return dict(zip(names_of(runs), runs, strict=True))


def best_of(sweep: Sweep, row: Ranked) -> dict[str, Any]:
    """Of a configuration's runs the one with the greatest score."""
    runs = sweep.runs_of(row.values)
    return max(runs, key=lambda run: run["score"] if is_finite(run["score"]) else float("-inf"))


def _is_page_of(output: Path, paths: Sequence[Path]) -> bool:
    if not output.is_file():
        return False
    with output.open("rb") as file:
        return mark_of(paths).encode() in file.read(HEAD_BYTES)


def check_output(output: Path, paths: Sequence[Path]) -> None:
    """Raises a ValueError where the page cannot be written, or would replace anything but an
    earlier page of the same runs."""
    if not output.parent.is_dir():
        raise ValueError(f"--output: there is no folder {output.parent}")
    if output.exists() and not _is_page_of(output, paths):
        raise ValueError(
            f"--output: {output} exists and is no report of the same runs: choose another file"
        )
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"--output: {output.parent} is not writable: choose another file")


def mark_of(paths: Sequence[Path]) -> str:
    """What a page says of which runs it is, wherever they lie."""
    ids = sorted(_about(path).get("id", str(path.resolve())) for path in paths)
    return f"jaxes report {hashlib.sha256(' '.join(ids).encode()).hexdigest()[:16]}"


def title_of(sweep: Sweep) -> str:
    """What was trained, and by what; the directory's name where nothing says it."""
    configs = [_about(row["run_dir"]).get("identity", {}).get("config") for row in sweep.rows]
    known = [config for config in configs if config]
    if not known:
        return ", ".join(_few(names_of([row["run_dir"].resolve() for row in sweep.rows])))
    tasks, strategies = _few(map(_task, known)), _few(map(_strategy, known))
    return f"{', '.join(tasks)} by {', '.join(strategies)}"


def _task(config: Mapping[str, Any]) -> str:
    section = config.get("environment") or config["problem"]
    return str(section.get("env_name", section["name"]))


def _strategy(config: Mapping[str, Any]) -> str:
    if "planner" in config:
        return f"planning with {config['planner']['strategy']['name']}"
    return config["strategy"]["name"]


def _few(names: Any) -> list[str]:
    """Each once, and how many more there are."""
    found = list(dict.fromkeys(names))
    more = len(found) - MOST_NAMES
    return found if more <= 0 else [*found[:MOST_NAMES], f"{more} more"]


def _best(ranked: Sequence[Ranked]) -> str:
    best = ranked[0]
    if not is_finite(best.iqm):
        return "no return: nothing was tested without divergence"
    interval = f" (95 %: {number(best.low)} to {number(best.high)})" if is_finite(best.low) else ""
    zero = f"; zero policy {number(best.zero_policy)}" if is_finite(best.zero_policy) else ""
    whose = f" with {label(best.values)}" if best.values else ""
    return f"best return {number(best.iqm)}{interval}{whose}{zero}"


def _configs(
    paths: Sequence[Path], sweep: Sweep, ranked: Sequence[Ranked]
) -> list[tuple[str, str]]:
    """Names and texts of the configs: of a sweep and its best run, or of each configuration."""
    whole = [path / "config.yaml" for path in paths if is_sweep(path)]
    files = {f"{path.resolve().parent.name}, the whole sweep": path for path in whole}
    for row in ranked[: 1 if files else MOST_CONFIGS]:
        best = best_of(sweep, row)
        name = label(row.values) or best["run_dir"].resolve().name
        files[f"{name}, seed {best['seed']}"] = best["run_dir"] / "config.yaml"
    return [
        (name, path.read_text(encoding="utf-8", errors="replace"))
        for name, path in files.items()
        if path.exists()
    ]


def _versions(paths: Sequence[Path]) -> dict[str, str]:
    """What `run.json` says beside the run's identity, by field: the values of all runs."""
    found: dict[str, dict[str, None]] = {}
    for path in paths:
        for name, value in _about(path).items():
            if not isinstance(value, dict | list):
                found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(_few(values)) for name, values in found.items()}


def _about(path: Path) -> dict[str, Any]:
    return read_run(path) if (path / "run.json").exists() else {}
