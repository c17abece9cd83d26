"""What a sweep shows while it goes on."""

from collections.abc import Sequence

from rich.console import Console

from jaxes.terminal import format_number, say
from jaxes.training.loop import Progress
from jaxes.training.run import Run


class SweepDisplay:
    """Says how long a batch will take, and after each test which trial leads."""

    def __init__(self, runs: Sequence[Run], console: Console | None):
        self.runs = runs
        self.console = console

    def update(self, progress: Progress) -> None:
        end, batch = progress.num_generations, progress.batch
        if progress.first:
            whole = progress.seconds / progress.count * (end - batch.done + progress.count)
            text = f"first generations in {progress.seconds:.1f} s; about {whole:,.0f} s to {end}"
            say(self.console, text)
        if progress.tested and self.console is not None:
            say(
                self.console,
                f"generation {batch.done}/{end}  {self._leader()}  "
                f"{batch.active.sum()} trials go on  {progress.seconds_left:,.0f} s left",
            )

    def _leader(self) -> str:
        best = max((run for run in self.runs if run.tests), key=Run.score)
        values = ", ".join(f"{name}={value}" for name, value in best.trial.values.items())
        about = f"trial {best.trial.index}{': ' if values else ''}{values}"
        return f"best return {format_number(best.score())} ({about})"
