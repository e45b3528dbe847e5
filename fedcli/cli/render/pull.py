"""What ``fedcli pull`` shows of its result."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from fedcli.cli.render.output import size_of

if TYPE_CHECKING:
    from fedcli.steps.pull import PullResult

_MOST = 20  # files and clients that are named


def render(result: "PullResult") -> list[RenderableType]:
    """Say what has come, who is missing, and what to type next."""
    whose = "a client's copy" if result.copy else "the coordinator's directory"
    files = "1 file" if len(result.placed) == 1 else f"{len(result.placed)} files"
    moved = f"{files}, {size_of(result.bytes)}" if result.placed else "already here, nothing new"
    lines: list[RenderableType] = [f"{result.run}, {whose} of run {result.id[:16]}: {moved}"]
    lines += [f"  {name}" for name in result.placed[:_MOST]]
    if len(result.placed) > _MOST:
        lines.append(f"  and {len(result.placed) - _MOST} more")
    if result.missing:
        named = ", ".join(result.missing[:_MOST])
        more = len(result.missing) - _MOST
        others = f" and {more} more" if more > 0 else ""
        lines.append(f"round {result.round} still misses {named}{others}")
    return [*lines, f"next: {result.next}"]
