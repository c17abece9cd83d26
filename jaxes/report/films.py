"""The films of a page: an episode of each policy, or the reason why there is none."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxes.report import render
from jaxes.terminal import format_number


class Shown(NamedTuple):
    """A film as a page holds it.

    Attributes:
      title: whose it is.
      source: the film itself, as a `data:` address; empty where there is none.
      said: what it shows, or why there is none.
    """

    title: str
    source: str
    said: str


def films_of(runs: Mapping[str, Path]) -> list[Shown]:
    """An episode of the latest policy of each run, by titles."""
    return [_film_of(title, run) for title, run in runs.items()]


def _film_of(title: str, run: Path) -> Shown:
    try:
        film = render.film_of(run)
        data = base64.b64encode(render.encoded(film, "mp4")).decode()
    except ValueError as error:
        return Shown(title, "", f"no film: {error}")
    said = f"return {format_number(film.episode_return)} in {film.length} steps"
    return Shown(title, f"data:video/mp4;base64,{data}", said)
