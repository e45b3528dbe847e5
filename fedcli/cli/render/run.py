"""What ``fedcli run`` shows of its result."""

from rich.console import RenderableType

from fedcli.cli.render.output import seconds
from fedcli.cli.render.tables import figures_table
from fedcli.steps.run import RunResult


def render(result: RunResult, then: str) -> list[RenderableType]:
    """Draw one row per round that was run; ``then`` is the command to type next."""
    if not result.rounds:
        return [_already(result), f"next: {then}"]
    table = figures_table(["round"], ["clients", "test loss", "acc. (%)", "time"])
    for row in result.rounds:
        table.add_row(
            str(row.round),
            str(row.clients),
            "" if row.loss is None else f"{row.loss:.4f}",
            "" if row.accuracy is None else f"{100 * row.accuracy:.1f}",
            seconds(row.seconds),
        )
    why = [f"stopped early: {result.stopped.reason}"] if result.stopped else []
    return [table, *why, f"next: {then}"]


def _already(result: RunResult) -> str:
    if result.stopped:
        return f"stopped early already: {result.stopped.reason}"
    return f"{result.rounds_complete} rounds are complete already."
