"""The label distribution of each client, as a table with bars in 80 columns."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MOST_COLUMNS = 10  # classes, up to which each has a column of its own
_STRIP = 50  # characters of a strip, however many the classes are
_WIDTH = 60  # characters for all classes together
_MOST_CLIENTS = 60


def block(count: int, highest: int) -> str:
    """Return a bar of one character; only 0 is blank."""
    if count == 0:
        return _BLOCKS[0]
    return _BLOCKS[max(1, round(count * (len(_BLOCKS) - 1) / highest))]


def short(count: int) -> str:
    """Write a count in at most four characters."""
    for unit in ("", "k", "M"):
        if count < 10_000 if unit == "" else count < 1_000:
            return f"{count}{unit}"
        count = round(count / 1000)
    return f"{count}G"


def strip(counts: Sequence[int], highest: int) -> str:
    """Draw one bar per class, or beyond 50 classes, one per group of neighbouring classes."""
    return "".join(block(count, highest) for count in grouped(counts))


def grouped(counts: Sequence[int]) -> list[int]:
    """Sum neighbouring classes so that at most 50 numbers are left."""
    size = -(-len(counts) // _STRIP)
    return [sum(counts[start : start + size]) for start in range(0, len(counts), size)]


def label_table(
    counts: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> list[RenderableType]:
    """Draw the table and, below it, what it leaves out. All bars share one scale."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("client", no_wrap=True, overflow="ellipsis", max_width=8)
    table.add_column("total", justify="right", no_wrap=True)
    if len(classes) <= _MOST_COLUMNS:
        cells = _counted
        for name in classes:
            width = max(5, _WIDTH // len(classes) - 1)
            table.add_column(_cut(name, width), justify="right", no_wrap=True)
    else:
        cells = _drawn
        table.add_column("classes", justify="right", no_wrap=True)
        table.add_column(_cut(f"{classes[0]} … {classes[-1]}", _STRIP), no_wrap=True)
    highest = max(max(grouped(one)) for one in counts.values())
    for client, one in list(counts.items())[:_MOST_CLIENTS]:
        table.add_row(client, short(sum(one)), *cells(one, highest))
    hidden = len(counts) - _MOST_CLIENTS
    return [table] if hidden <= 0 else [table, f"… and {hidden} more, in data/partition.json"]


def _counted(counts: Sequence[int], highest: int) -> list[str]:
    return [f"{block(count, highest)}{short(count):>4}" for count in counts]


def _drawn(counts: Sequence[int], highest: int) -> list[str]:
    return [str(sum(count > 0 for count in counts)), strip(counts, highest)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
