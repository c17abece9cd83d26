"""How a table fits a terminal: words stay whole, and where it is narrow, details are left out."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from jaxes.report.tables import Column

AROUND = 3  # of a column: a space on both sides, and a line


def fitted(columns: Sequence[Column], width: int, labels: Sequence[str] = ()) -> Table:
    """A table of whole words in `width` characters. Where it does not fit, details are left out,
    from the last one on, which its caption says.

    Args:
      columns: of the table.
      width: of the terminal.
      labels: of its lines; they take the place of the fields where it does not even fit then.
    """
    ways = list(_ways(columns, labels))
    shown = next((way for way in ways if width >= _least(way)), ways[-1])
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


def _ways(columns: Sequence[Column], labels: Sequence[str]) -> Iterator[list[Column]]:
    """From all columns to the fewest."""
    others = [column for column in columns if column.kind != "field"]
    labeled = [[Column("configuration", list(labels), "text"), *others]] if any(labels) else []
    for some in (columns, *labeled):
        details = [column for column in some if column.kind == "detail"]
        for count in range(len(details), -1, -1):
            out = details[count:]
            yield [column for column in some if column not in out]


def _least(columns: Sequence[Column]) -> int:
    return sum(_least_of(column) + AROUND for column in columns) + 1


def _least_of(column: Column) -> int:
    """The width at which its name and its texts are wrapped between words alone."""
    words = column.name.split()
    words += [word for cell in column.cells for word in cell.split()]
    return max(map(cell_len, words if column.kind == "text" else [*words, *column.cells]))
