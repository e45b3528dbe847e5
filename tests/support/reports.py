"""Reports as a reader sees them."""

import io

from rich.console import Console

from fedcli.reporting.report import Report
from fedcli.reporting.terminal import render


def terminal_text(found: Report, width: int = 80, *, details: bool = False) -> str:
    """What a terminal of this width shows of a report."""
    stream = io.StringIO()
    console = Console(width=width, file=stream, highlight=False, markup=False)
    for part in render(found, details=details):
        console.print(part, soft_wrap=isinstance(part, str))  # as cli.output does
    return stream.getvalue()
