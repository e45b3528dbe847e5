"""What ``fedcli train-client`` shows of its result."""

from rich.console import RenderableType

from fedcli.cli.render.output import figures_table, seconds, size_of
from fedcli.run import Run
from fedcli.run.late_updates import late_advice
from fedcli.steps.status import status
from fedcli.steps.train_client import TrainClientResult


def render(result: TrainClientResult, run: Run) -> list[RenderableType]:
    """Draw one row per client, and say what to do next in ``run``."""
    table = figures_table(
        ["client"], ["examples", "loss", "acc. (%)", "images/s", "time", "update"]
    )
    for client in result.clients:
        if client.already_done:
            figures = ["", "", "", "before"]
        else:
            last = client.epochs[-1]
            figures = [
                f"{last.loss:.4f}",
                f"{100 * last.accuracy:.1f}",
                f"{client.images_per_second:.0f}",
                seconds(client.seconds),
            ]
        size = size_of(client.bytes)
        table.add_row(client.client, str(client.num_examples), *figures, size)
    heading = f"round {result.round}, on {result.device} with {result.training['threads']} threads"
    skipped = [
        f"client {client.client}: {len(client.skipped)} files left out; only their number is sent"
        for client in result.clients
        if client.skipped
    ]
    return [heading, table, *skipped, _advice(run, result)]


def _advice(run: Run, result: TrainClientResult) -> str:
    late = [client.client for client in result.clients if client.late]
    return late_advice(run, result.round, late) if late else f"next: {status(run).next}"
