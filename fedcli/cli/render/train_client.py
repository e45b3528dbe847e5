"""What ``fedcli train-client`` shows of its result."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType

from fedcli.cli.render.next import is_pushed, next_lines, paths, to_send
from fedcli.cli.render.output import seconds, size_of
from fedcli.cli.render.tables import figures_table
from fedcli.run import Run
from fedcli.run.late_updates import late_advice
from fedcli.run.next_command import push_command
from fedcli.steps.train_client import TrainClientResult


def render(result: TrainClientResult, run: Run, again: str) -> list[RenderableType]:
    """Draw one row per client, and say what to do next in ``run``.

    ``again`` is the command of the next round, as this one was typed.
    """
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
    return [heading, table, *skipped, *_advice(run, result, again)]


def _advice(run: Run, result: TrainClientResult, again: str) -> list[str]:
    late = [client.client for client in result.clients if client.late]
    advice = [late_advice(run, result.round, late)] if late else []
    if not result.send:
        return advice or next_lines(run)
    if is_pushed(run):
        return [*advice, f"next: {push_command(run)}"]
    sent = to_send(run, "the coordinator", result.send)
    optional = f"and, if you like, for its report: {paths(result.may_send)}"
    then = f"next, when {paths(result.awaits, ', ')} {_have(result.awaits)} arrived: {again}"
    return [*sent, *([optional] if result.may_send else []), *(advice or [then])]


def _have(files: Sequence[Path]) -> str:
    return "has" if len(files) == 1 else "have"
