"""What ``fedcli export`` shows of its result."""

from rich.console import RenderableType

from fedcli.cli.render.output import size_of
from fedcli.reporting.words import rounds_named
from fedcli.steps.export import BestBy, ExportResult


def render(result: ExportResult) -> list[RenderableType]:
    """Name the files that were written."""
    best = [_chosen(result.best, result.round)] if result.best else []
    what = f"global model of round {result.round}"
    if result.merged:
        what += ", adapters merged"
    done = "already exported, nothing changed" if result.already_done else f"exported the {what}"
    return [
        *best,
        done,
        f"{result.path}  {size_of(result.bytes)}  SHA-256 {result.sha256}",
        f"{result.card}",
    ]


def _chosen(best: BestBy, number: int) -> str:
    name = best.metric.replace("_", " ")
    rounds = "1 scored round" if best.rounds == 1 else f"{best.rounds} scored rounds"
    line = f"round {number} has the best {name}: {best.value:.4f} ({best.subject}, {rounds})"
    if best.unscored:
        line += f"; without a score: {rounds_named(best.unscored)}"
    return line
