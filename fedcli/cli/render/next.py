"""What to type next, and where, as several commands end with it."""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import FedcliError
from fedcli.options import Given

if TYPE_CHECKING:
    from fedcli.run import Run
    from fedcli.steps.status import Status

_MOST = 10  # commands of clients


def next_of(status: "Status") -> list[str]:
    """Write what to type, and where if clients train where their data is."""
    if status.next is None:
        return ["next: nothing to type: fedcli run is active"]
    elsewhere = [(step.client, step.command) for step in status.at_clients]
    elsewhere += [("the coordinator", status.at_coordinator)] if status.at_coordinator else []
    others = [(place, command) for place, command in elsewhere if command != status.next]
    shown, more = others[-_MOST:], len(others) - _MOST
    return [
        *(f"at {place}: {command}" for place, command in shown),
        *([f"and the like at {more} more clients"] if more > 0 else []),
        f"next: {status.next}",
    ]


def _status_of(run: "Run", sampling: Given | None = None) -> "Status":
    from fedcli.steps.status import status  # which --help does not need

    return status(run, None, sampling or {})


def next_lines(run: "Run") -> list[str]:
    """Write what to type after a step that is done, which no fault of other files may undo."""
    with suppress(FedcliError):
        return next_of(_status_of(run))
    return [f"next: {run.command('status')}"]


def next_here(run: "Run", sampling: Given) -> list[str]:
    """Write what to type in this place, with the sampling that was typed."""
    with suppress(FedcliError):
        now = _status_of(run, sampling)
        return next_of(replace(now, at_clients=(), at_coordinator=None))
    return [f"next: {run.command('status')}"]


def report_lines(run: "Run") -> list[str]:
    """Write how to see the scores, and what the next round needs."""
    lines = []
    with suppress(FedcliError):
        now = _status_of(run)
        if now.next is not None:
            lines.append(f"for round {now.open_round}: {now.next}")
    return [*lines, f"next: {run.command('report')}"]


def is_pushed(run: "Run") -> bool:
    """Return whether files travel by ``push`` and ``pull``, and nobody copies them by hand."""
    return run.info.remote is not None or run.copy_file.exists()


def to_send(run: "Run", whom: str, files: Iterable[Path]) -> list[str]:
    """Write how to send files, unless the others work in this directory."""
    from fedcli.run.next_command import push_command  # which --help does not need

    if is_pushed(run):
        return [f"send to {whom}: {push_command(run)}"]
    return [f"send to {whom}, unless in this directory:", f"  {paths(files)}"]


def paths(files: Iterable[Path], separator: str = " ") -> str:
    """Write paths as a shell takes them."""
    return separator.join(shlex.quote(str(path)) for path in files)
