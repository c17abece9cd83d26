"""What is said on a terminal, and how numbers look there."""

import codecs
import io
import os
import unicodedata
from typing import Any

from rich.console import Console


def format_number(value: float) -> str:
    """One decimal for scores, significant digits for small values."""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def format_bytes(size: float) -> str:
    """In the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def say(console: Console | None, text: str) -> None:
    """Prints lines as they are: not wrapped, no markup."""
    if console is not None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)


class PatientConsole(Console):
    """A console that falls silent, rather than ends the program, when its reader goes away."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


IN_ASCII = {"±": "+-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "…": "...", "\u2013": "-"}


def spell_out(stream: Any) -> None:
    """Lets a stream of few characters, such as an ASCII terminal's, take all: σ becomes `sigma`."""
    codecs.register_error("spell_out", _spelled)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="spell_out")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    strange = error.object[error.start : error.end]
    return "".join(map(_in_ascii, strange)), error.end


def _in_ascii(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " LETTER " in name:
        return name.rpartition(" ")[2].lower()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return IN_ASCII.get(character, plain or "?")
