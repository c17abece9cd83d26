"""How a table fits a terminal: words stay whole, and where it is narrow, details are left out."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from jaxes.report.tables import NOTHING, Column

AROUND = 3  # of a column: a space on both sides, and a line


def fitted(columns: Sequence[Column], width: int) -> Table:
    """A table of whole words in `width` characters: details are left out until it fits, from the
    last one on, which its caption says; if it does not even then, the fields share a column."""
    some = list(_ways(columns))
    shown = next((way for way in some if width >= _least(way)), some[-1])
    spare = width - _least(shown)
    left_out = [c.name for c in columns if c.kind == "detail" and c not in shown]
    table = Table(caption=f"left out for width: {', '.join(left_out)}" if left_out else None)
    for column in shown:
        least = _least_of(column)
        more = min(max(map(cell_len, [column.name, *column.cells])) - least, max(spare, 0))
        breaks = spare < 0 and column.kind == "text"  # a word is longer than the terminal is wide
        table.add_column(column.name, width=None if breaks else least + more, overflow="fold")
        spare -= more
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(Text, cells))  # in which [...] is no markup
    return table


def _ways(columns: Sequence[Column]) -> Iterator[list[Column]]:
    """From all columns to the fewest."""
    for some in (columns, _with_shared_fields(columns)):
        details = [column for column in some if column.kind == "detail"]
        for count in range(len(details), -1, -1):
            out = details[count:]
            yield [column for column in some if column not in out]


def _with_shared_fields(columns: Sequence[Column]) -> list[Column]:
    """The fields as one column of text, which may be wrapped."""
    fields = [column for column in columns if column.kind == "field"]
    lines = zip(*(column.cells for column in fields), strict=True)
    said = [
        " ".join(
            f"{c.name}={cell}" for c, cell in zip(fields, line, strict=True) if cell != NOTHING
        )
        for line in lines
    ]
    shared = [Column("configuration", said, "text")] if fields else []
    return shared + [column for column in columns if column.kind != "field"]


def _least(columns: Sequence[Column]) -> int:
    return sum(_least_of(column) + AROUND for column in columns) + 1


def _least_of(column: Column) -> int:
    """The width at which its name and its texts are wrapped between words alone."""
    words = column.name.split()
    words += [word for cell in column.cells for word in cell.split()]
    return max(map(cell_len, words if column.kind == "text" else [*words, *column.cells]))
