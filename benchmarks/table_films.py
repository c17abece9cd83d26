"""Films of the best seed of each task: a return says little about how it was come by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from table_rows import Row, best_of, shown_by
from table_runs import FINAL

import jaxes
from jaxes.files import read_json
from jaxes.training.directory import trial_dir

SECONDS, WIDTH, HEIGHT = 8.0, 240, 180


def filmed(task: str, rows: Sequence[Row], runs: Path, output: Path) -> dict[str, Any] | None:
    """Films an episode of the best seed of a task, if its run is still there.

    Args:
      rows: of the table.
      runs: the folder in which `table.py train` left the run.
      output: the folder of the films; one of an earlier seed is replaced.

    Returns:
      What the film shows; None where there is none.
    """
    best = best_of(row for row in rows if row["task"] == task)
    if best is None:
        return None
    row, index = best
    shown, run = shown_by(row, index), trial_dir(runs / task / row["algorithm"], index)
    if not run.exists():
        return None
    score = read_json(run / FINAL, {"result": dict})["result"].get("score")
    if score != shown["return"]:
        print(f"{run} has a return of {score}, not {shown['return']}: not filmed")
        return None
    film = output / f"{task}.mp4"
    output.mkdir(parents=True, exist_ok=True)
    new = output / f"{task}.new.mp4"
    new.unlink(missing_ok=True)  # of a film that was cut
    jaxes.render(run, new, width=WIDTH, height=HEIGHT, max_seconds=SECONDS)
    new.replace(film)
    print(f"{film}: {shown}", flush=True)
    return {"file": film.name} | shown
