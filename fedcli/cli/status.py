"""``fedcli status``."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from fedcli.cli.aggregation_options import SamplingOptions
from fedcli.cli.options import OutputOptions, RoundOption, RunOption
from fedcli.cli.output import Output
from fedcli.errors import UsageError
from fedcli.run import DEFAULT_RUN, Run

if TYPE_CHECKING:
    from fedcli.steps.status import Status


def status(
    run: RunOption = DEFAULT_RUN,
    round_number: RoundOption = None,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled",
            help="Print only the clients that were drawn for the round, as train-client --id"
            " takes them.",
        ),
    ] = False,
    sampling: SamplingOptions = SamplingOptions(),
    printing: OutputOptions = OutputOptions(),
) -> None:
    """Tell where the run stands: who has delivered, who is missing, what to type next."""
    from fedcli.steps.status import status as step

    opened = Run.open(run)
    with Output("status", printing) as output:
        result = step(opened, round_number, sampling.given())
        if sampled and not result.clients:
            raise UsageError("--sampled: this run was made without a list of clients")
        output.result(result, _render_sampled if sampled else _render)


def _render_sampled(status: "Status") -> list[RenderableType]:
    return [",".join(status.sampled)]


def _render(status: "Status") -> list[RenderableType]:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("run", f"{status.run} ({status.id[:12]})")
    table.add_row("data", f"{status.dataset}, {status.classes} classes")
    table.add_row("model", status.model)
    table.add_row("clients", _names(status.clients) or "any (no list was given)")
    table.add_row("complete", _rounds(status))
    table.add_row("open round", str(status.open_round))
    if status.round != status.open_round:
        table.add_row("in round", str(status.round))
    if status.sampled != status.clients:
        table.add_row("sampled", _names(status.sampled))
    table.add_row("delivered", _names(status.delivered) or "none")
    if status.clients:
        table.add_row("missing", _names(status.missing) or "none")
    return [table, f"next: {status.next}"]


def _names(clients: tuple[str, ...]) -> str:
    shown = ", ".join(clients[:10])
    return f"{shown}, … ({len(clients)} in all)" if len(clients) > 10 else shown


def _rounds(status: "Status") -> str:
    done = status.open_round - 1
    if done == 0:
        return "the starting model (round 0)"
    return f"round{'s' * (done > 1)} 1{f'–{done}' * (done > 1)}, {len(status.evaluated)} evaluated"
