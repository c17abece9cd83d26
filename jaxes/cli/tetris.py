"""`jaxes tetris score | play`."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from jaxes.checks import check_count, check_number, check_seed
from jaxes.cli import common
from jaxes.config import files
from jaxes.terminal import format_number, say
from jaxes.training.metrics import finite

SHOWN = 200  # pieces of a game


def add_to(commands: Any) -> argparse.ArgumentParser:
    command = commands.add_parser("tetris", help="score a Tetris controller, or watch it play")
    subcommands = command.add_subparsers(metavar="score|play", required=True)
    score = subcommands.add_parser("score", help="the mean lines of many games")
    score.add_argument("--games", type=int, default=1000, help="default: 1000")
    score.add_argument("--max-pieces", type=int, help="cut games after so many; default: never")
    play = subcommands.add_parser("play", help="watch one game, or film it")
    play.add_argument("--pieces", type=int, default=SHOWN, help=f"to show; default: {SHOWN}")
    play.add_argument(
        "--speed", type=float, default=10.0, help="pieces a second, 0.1 to 50; default: 10"
    )
    play.add_argument("--output", type=Path, metavar="FILE", help="an .mp4 or .gif of it")
    for each, run_it in ((score, _score), (play, _play)):
        each.set_defaults(tetris=run_it)
        each.add_argument(
            "--weights",
            required=True,
            metavar="FILE|NAME|RUN",
            help="JSON, dellacherie, du or dt10, or the directory of a run",
        )
        each.add_argument("--height", type=int, help="rows; default: 20, or those of the run")
        each.add_argument("--seed", type=int, default=0, help="of the pieces; default: 0")
        common.add_jax_options(each)
    return command


def run(options: argparse.Namespace, console: Console) -> None:
    options.tetris(options, console)


def _score(options: argparse.Namespace, console: Console) -> None:
    from jaxes import tetris

    check_count("--games", options.games, maximum=tetris.games.MAX_GAMES)
    if options.max_pieces is not None:
        check_count("--max-pieces", options.max_pieces, maximum=tetris.games.MAX_PIECES)
    check_seed("--seed", options.seed)
    controller = find(options.weights, options.height)
    score = tetris.score(
        controller, options.games, max_pieces=options.max_pieces, seed=options.seed
    ).plain()
    lines, interval = format_number(score["lines_mean"]), format_number(score["lines_ci95"])
    board = f"{controller.controller.height} rows"
    say(console, f"{lines} ± {interval} lines a game (95 %), over {score['games']} games, {board}")
    if score["capped"]:
        capped = f"{score['capped']} games were cut after {options.max_pieces} pieces"
        say(console, f"a lower bound: {capped}, and could have gone on")
    say(
        console,
        f"{format_number(score['pieces_per_line'])} pieces a line; "
        f"{score['pieces_per_second']:,.0f} pieces/s",
    )
    if options.json:
        print(json.dumps(finite(score)))


def _play(options: argparse.Namespace, console: Console) -> None:
    from jaxes.film import check_output, save
    from jaxes.tetris import film

    check_count("--pieces", options.pieces)
    check_number("--speed", options.speed, lambda speed: 0.1 <= speed <= 50, "in [0.1, 50]")
    check_seed("--seed", options.seed)
    controller = find(options.weights, options.height)
    frames = film.frames(controller, options.pieces, options.seed)
    last = None
    if options.output is not None:
        check_output("--output", options.output)
        played = list(frames)
        save(film.filmed(played, options.speed), options.output)
        last = played[-1]
        say(console, str(options.output))
    else:
        with Live(console=console, auto_refresh=False) as live:
            for last in frames:
                live.update(_panel(last), refresh=True)
                if console.is_terminal:
                    time.sleep(1 / options.speed)
    assert last is not None
    how = "the board is full" if last.over else "to be continued"
    say(console, f"{last.lines} lines in {last.pieces} pieces: {how}")
    if options.json:
        print(json.dumps({"lines": last.lines, "pieces": last.pieces, "over": last.over}))


def _panel(frame: Any) -> Panel:
    from jaxes.tetris import draw

    rows = draw(frame.board).replace("X", "██").replace(".", "  ")
    return Panel(rows, title=f"{frame.lines} lines, {frame.pieces} pieces", expand=False)


def find(weights: str, height: int | None) -> Any:
    """The controller of a name, a file, or a run.

    Raises:
      ValueError: it is none of them, or a run of something else.
    """
    from jaxes import tetris
    from jaxes.tetris.boards import check_size
    from jaxes.tetris.published import checked
    from jaxes.training.start import of_run

    rows = 20 if height is None else height
    check_size(rows, 10, "--height", "--width")
    if weights in tetris.PUBLISHED:
        return tetris.published(weights, rows)
    path = Path(weights)
    if path.is_dir():
        problem = files.read(files.config_of_run(path)).get("problem", {})
        if problem.get("name") != "tetris":
            raise ValueError(f"--weights: {weights} is no run of Tetris")
        rows = problem["height"] if height is None else height
        controller = tetris.Controller.of(problem["features"], rows, problem["width"])
        mean = tuple(of_run(path, "--weights").mean.tolist())
        return checked("--weights", tetris.Weighted(controller, mean))
    if not path.is_file():
        names = ", ".join(tetris.PUBLISHED)
        raise ValueError(f"--weights must be a file, a run, or one of {names}, got {weights!r}")
    return tetris.read(path, rows)
