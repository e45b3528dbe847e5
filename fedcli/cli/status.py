"""``fedcli status``."""

from rich.console import RenderableType
from rich.table import Table

from fedcli.cli.options import (
    DebugOption,
    JsonOption,
    QuietOption,
    RunOption,
)
from fedcli.cli.output import Output
from fedcli.run import DEFAULT_RUN, Run
from fedcli.steps.status import Status
from fedcli.steps.status import status as step


def status(
    run: RunOption = DEFAULT_RUN,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell where the run stands: who has delivered, who is missing, what to type next."""
    with Output("status", json=json, quiet=quiet) as output:
        output.result(step(Run.open(run)), _render)


def _render(status: Status) -> list[RenderableType]:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("run", f"{status.run} ({status.id[:12]})")
    table.add_row("data", f"{status.dataset}, {status.classes} classes")
    table.add_row("model", status.model)
    table.add_row("clients", _names(status.clients) or "any (no list was given)")
    table.add_row("complete", _rounds(status))
    table.add_row("open round", str(status.open_round))
    table.add_row("delivered", _names(status.delivered) or "none")
    if status.clients:
        table.add_row("missing", _names(status.missing) or "none")
    return [table, f"next: {status.next}"]


def _names(clients: tuple[str, ...]) -> str:
    shown = ", ".join(clients[:10])
    return f"{shown}, … ({len(clients)} in all)" if len(clients) > 10 else shown


def _rounds(status: Status) -> str:
    done = status.open_round - 1
    if done == 0:
        return "the starting model (round 0)"
    return f"round{'s' * (done > 1)} 1{f'–{done}' * (done > 1)}, {len(status.evaluated)} evaluated"
