"""What is said on a terminal, and how numbers look there."""

import os

from rich.console import Console


def format_number(value: float) -> str:
    """One decimal for scores, significant digits for small values."""
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"


def say(console: Console | None, text: str) -> None:
    """Prints lines as they are: not wrapped, no markup."""
    if console is not None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)


class PatientConsole(Console):
    """A console that falls silent, rather than ends the program, when its reader goes away."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
