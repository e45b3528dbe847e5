"""What ``fedcli push`` shows of its result."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from fedcli.cli.render.output import size_of

if TYPE_CHECKING:
    from fedcli.steps.push import PushResult


def render(result: "PushResult") -> list[RenderableType]:
    """Say what was sent, and where to."""
    what = "this copy's updates" if result.copy else "the run"
    if result.already_done:
        return [f"{what} to {result.remote}: already done, nothing sent"]
    files = "1 file" if len(result.sent) == 1 else f"{len(result.sent)} files"
    return [
        f"sent {what} to {result.remote}: {files}, {size_of(result.bytes)}",
        *(f"  {name}" for name in result.sent),
    ]
