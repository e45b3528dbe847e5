"""``fedcli status --watch``: look at a run again and again, in place on a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from rich.console import Group
from rich.live import Live

from fedcli.cli import streams
from fedcli.cli.render.output import Output, escaped
from fedcli.cli.render.status import render
from fedcli.errors import FedcliError
from fedcli.steps.status import Status


def watch(output: Output, look: Callable[[], Status], wait: Callable[[], None]) -> None:
    """Show a run until its ``fedcli run`` ends.

    On a terminal that can, the view is redrawn in place, and stays at the end; elsewhere it is
    printed whenever something has changed. Raises ``EndedByUserError`` after Ctrl-C,
    ``BrokenPipeError`` once nobody reads what is printed, and what ``look`` raises at first or
    twice in a row.
    """
    states = follow(look, wait)
    console = output.console
    in_place = console.is_terminal and not console.is_dumb_terminal
    show = _redraw if in_place else _print_changes
    try:
        show(output, states)
    except KeyboardInterrupt:
        raise streams.EndedByUserError from None


def follow(look: Callable[[], Status], wait: Callable[[], None]) -> Iterator[Status]:
    """Yield the state of a run at each look, up to the end of a run that was seen active."""
    now = look()
    while True:
        yield now
        was_active = _is_active(now)
        wait()
        now = _look_again(look, wait)
        if was_active and not _is_active(now):
            yield now
            return


def _look_again(look: Callable[[], Status], wait: Callable[[], None]) -> Status:
    with suppress(FedcliError):  # a file may have gone between its listing and its reading
        return look()
    wait()
    return look()


def _is_active(status: Status) -> bool:
    return status.active is not None and status.active.is_active


def _redraw(output: Output, states: Iterator[Status]) -> None:
    shown: Status | None = None
    try:
        with Live(console=output.console, auto_refresh=False, transient=True) as live:
            for shown in states:
                live.update(Group(_now(), *render(escaped(shown))), refresh=True)
    finally:
        if shown is not None:  # whole, and with commands that can be copied
            output.result(shown, render)


def _print_changes(output: Output, states: Iterator[Status]) -> None:
    printed: Status | None = None
    for state in states:
        if streams.reader_has_gone():
            raise BrokenPipeError
        if (lasting := _lasting(state)) != printed:
            output.console.print(_now() if printed is None else f"\n{_now()}")
            output.result(state, render)
            printed = lasting


def _lasting(status: Status) -> Status:
    """Return a status without what differs at each look: ages, speeds, memory, the time left."""
    training = tuple(
        replace(one, seconds_ago=0, updated="", images_per_second=None, peak_memory_bytes=None)
        for one in status.training
    )
    active = (
        None if status.active is None else replace(status.active, seconds_ago=0, seconds_left=None)
    )
    return replace(status, training=training, active=active)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
