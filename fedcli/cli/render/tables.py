"""Tables on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table


def figures_table(text: Sequence[str], figures: Sequence[str]) -> Table:
    """Return an empty table: columns of text, then right-aligned columns of figures."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for name in text:
        table.add_column(name, overflow="fold")
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table
