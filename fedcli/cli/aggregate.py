"""``fedcli aggregate``."""

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from fedcli.advice import evaluate_command
from fedcli.cli.options import (
    DebugOption,
    ExcludeOption,
    ForceOption,
    JsonOption,
    MinClientsOption,
    QuietOption,
    RoundOption,
    RunOption,
    WeightingOption,
)
from fedcli.cli.output import Output, figures_table, megabytes, seconds
from fedcli.run import DEFAULT_RUN, Run

if TYPE_CHECKING:
    from fedcli.steps.aggregate import AggregateResult

_SHOWN = 20


def aggregate(
    run: RunOption = DEFAULT_RUN,
    round_number: RoundOption = None,
    weighting: WeightingOption = None,
    min_clients: MinClientsOption = None,
    exclude: ExcludeOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Combine the open round's updates into the next global model."""
    from fedcli.steps.aggregate import aggregate as step

    opened = Run.open(run)
    with Output("aggregate", json=json, quiet=quiet) as output:
        result = step(
            opened,
            round_number=round_number,
            weighting=weighting,
            min_clients=min_clients,
            exclude=exclude or (),
            force=force,
            progress=output,
        )
        output.result(result, lambda result: _render(result, evaluate_command(opened)))


def _render(result: "AggregateResult", then: str) -> list[RenderableType]:
    table = figures_table(["client"], ["examples", "weight", "size", "update (SHA-256)"])
    for client in result.clients[:_SHOWN]:
        table.add_row(
            client.client,
            f"{client.num_examples:,}",
            f"{client.weight:.4f}",
            megabytes(client.bytes),
            client.sha256[:12],
        )
    parts: list[RenderableType] = [_headline(result), table]
    if len(result.clients) > _SHOWN:
        parts.append(f"… and {len(result.clients) - _SHOWN} more; see aggregate.json")
    if result.missing:
        parts.append(f"missing: {_some(result.missing)}")
    for reason in sorted({rejection.reason for rejection in result.rejected}):
        clients = [r.client for r in result.rejected if r.reason == reason]
        parts.append(f"left out ({reason}): {_some(clients)}")
    parts.append(Text(f"global model: {result.path} (SHA-256 {result.sha256[:12]})"))
    return [*parts, f"next: {then}"]


def _headline(result: "AggregateResult") -> str:
    count = len(result.clients)
    of = f"round {result.round}: FedAvg of {count} update{'s' if count > 1 else ''}"
    weighting = f"weighted by {result.weighting}" if result.weighting == "examples" else "uniform"
    if result.already_done:
        return f"{of}, {weighting}: already done, nothing changed"
    return f"{of}, {weighting}: {megabytes(result.bytes_read)} in {seconds(result.seconds)}"


def _some(clients: "tuple[str, ...] | list[str]") -> str:
    more = f" and {len(clients) - _SHOWN} more" if len(clients) > _SHOWN else ""
    return ", ".join(clients[:_SHOWN]) + more
