"""Films of the best seed of each task: a return says little about how it was come by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from table_rows import returns_of

import jaxes
from jaxes.training.directory import trial_dir

SECONDS, WIDTH, HEIGHT = 8.0, 240, 180


def filmed(rows: Sequence[Mapping[str, Any]], runs: Path, output: Path) -> dict[str, dict]:
    """Films an episode of the best seed of each task, of those whose run is still there.

    Args:
      rows: of the table.
      runs: the folder in which `table.py train` left them.
      output: the folder of the films; one of an earlier seed is replaced.

    Returns:
      By task, what its film shows.
    """
    films = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task and row["algorithm"] != "ppo"]
        best = max(mine, key=lambda row: returns_of(row).max(), default=None)
        if best is None:
            continue
        index = int(returns_of(best).argmax())
        run = trial_dir(runs / task / best["algorithm"], index)
        if not run.exists():
            continue
        film = output / f"{task}.mp4"
        output.mkdir(parents=True, exist_ok=True)
        film.unlink(missing_ok=True)
        jaxes.render(run, film, width=WIDTH, height=HEIGHT, max_seconds=SECONDS)
        seed = best["seeds"][index]
        films[task] = {
            "file": film.name,
            "algorithm": best["algorithm"],
            "seed": seed["seed"],
            "return": seed["final"]["score"],
        }
        print(f"{film}: {films[task]}", flush=True)
    return films
