"""What ``fedcli unmask`` and ``fedcli aggregate --close`` show of their results."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from fedcli.cli.render.next import next_lines, to_send
from fedcli.run.next_command import aggregate_command, unmask_command

if TYPE_CHECKING:
    from fedcli.run import Run
    from fedcli.steps.close import CloseResult
    from fedcli.steps.unmask import UnmaskResult


def render(result: "UnmaskResult", run: "Run") -> list[RenderableType]:
    """Say what a member has answered, and what it keeps; in a simulation, what to type next."""
    done = ": already done, nothing changed" if result.already_done else ""
    lines: list[RenderableType] = [
        f"client {result.client} has answered for round {result.round}{done}",
        f"in the sum: {', '.join(result.survivors)}",
    ]
    if result.missing:
        lines.append(f"missing: {', '.join(result.missing)}")
    if run.has_keys:
        return [*lines, *next_lines(run)]
    lines.append(f"keep {result.record}, which lets no second list be answered")
    return [*lines, *to_send(run, "the coordinator", result.send)]


def render_closed(result: "CloseResult", run: "Run") -> list[RenderableType]:
    """Say whose updates are in the sum, and who must answer."""
    done = ": already closed, nothing changed" if result.already_done else " is closed"
    lines: list[RenderableType] = [
        f"round {result.round}{done}",
        f"in the sum: {', '.join(result.survivors)}",
        *(f"missing: {one.client}: {one.reason}" for one in result.missing),
        f"next, by {result.needed} of {len(result.members)} members: "
        + unmask_command(run, "NAME"),
        f"then: {aggregate_command(run)}",
    ]
    return (
        [*lines, *to_send(run, "the members", (result.path,))] if not run.is_simulation else lines
    )
