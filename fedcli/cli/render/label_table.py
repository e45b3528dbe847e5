"""The label distribution of each client, as a table with bars, as wide as the terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table

from fedcli.formats.client_ids import client_order

_BLOCKS = " ▁▂▃▄▅▆▇█"
_STRIP = 50  # characters of a strip, however many the classes are
_ID = 8  # characters of a client's name, at least
_TOTAL = 8  # characters of the total, and between the columns
_COUNT = 5  # characters of a bar and a count
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
    table = LabelTable(counts, classes)
    hidden = len(counts) - _MOST_CLIENTS
    return [table] if hidden <= 0 else [table, f"… and {hidden} more, in data/partition.json"]


@dataclass(frozen=True)
class LabelTable:
    """Label counts by client, drawn in the width that the terminal has."""

    counts: Mapping[str, Sequence[int]]
    classes: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Draw a column for each class if there is room, and else a strip of bars."""
        clients = client_order(self.counts)[:_MOST_CLIENTS]
        longest = max(len("client"), *map(len, clients))
        longest = min(longest, max(_ID, options.max_width // 5))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("client", no_wrap=True, overflow="ellipsis", max_width=longest)
        table.add_column("total", justify="right", no_wrap=True)
        room = options.max_width - longest - _TOTAL
        highest = max(max(grouped(one)) for one in self.counts.values())
        cells = self._add_classes(table, room)
        for client in clients:
            one = self.counts[client]
            table.add_row(client, short(sum(one)), *cells(one, highest))
        yield table

    def _add_classes(self, table: Table, room: int) -> Callable[[Sequence[int], int], list[str]]:
        """Add the columns of the classes; return what draws the cells of a client."""
        classes = self.classes
        width = room // len(classes) - 1
        if width < _COUNT:
            table.add_column("classes", justify="right", no_wrap=True)
            table.add_column(_cut(f"{classes[0]} … {classes[-1]}", _STRIP), no_wrap=True)
            return _drawn
        for name in classes:
            table.add_column(_cut(name, width), justify="right", no_wrap=True)
        return _counted


def _counted(counts: Sequence[int], highest: int) -> list[str]:
    return [f"{block(count, highest)}{short(count):>4}" for count in counts]


def _drawn(counts: Sequence[int], highest: int) -> list[str]:
    return [str(sum(count > 0 for count in counts)), strip(counts, highest)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
