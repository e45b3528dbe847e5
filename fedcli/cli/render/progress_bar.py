"""The bar that a step's progress is drawn as, on a terminal."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fedcli.progress import Label


class _LabelColumn(ProgressColumn):
    """What a function says at the moment; it knows better than a count how much time is left."""

    def __init__(self, say: Callable[[], str]) -> None:
        super().__init__()
        self._say = say

    def render(self, task: Task) -> Text:
        return Text(self._say())


def started_bar(label: Label, total: int, console: Console) -> Progress:
    """Draw a bar of ``total`` units of work."""
    columns: list[ProgressColumn] = (
        [
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        ]
        if isinstance(label, str)
        else [_LabelColumn(label), BarColumn(bar_width=None)]
    )
    bar = Progress(*columns, console=console, transient=True)
    bar.add_task(label if isinstance(label, str) else "", total=total)
    bar.start()
    return bar
