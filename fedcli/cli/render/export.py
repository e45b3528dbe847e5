"""What ``fedcli export`` shows of its result."""

from rich.console import RenderableType

from fedcli.cli.render.output import size_of
from fedcli.steps.export import ExportResult


def render(result: ExportResult) -> list[RenderableType]:
    """Name the files that were written."""
    what = f"global model of round {result.round}"
    if result.merged:
        what += ", adapters merged"
    done = "already exported, nothing changed" if result.already_done else f"exported the {what}"
    return [
        done,
        f"{result.path}  {size_of(result.bytes)}  SHA-256 {result.sha256}",
        f"{result.card}",
    ]
