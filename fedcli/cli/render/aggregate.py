"""What ``fedcli aggregate`` shows of its result, in 80 columns."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fedcli.cli.render.next import to_send
from fedcli.cli.render.output import seconds, size_of
from fedcli.cli.render.tables import figures_table
from fedcli.text import WITHHELD

if TYPE_CHECKING:
    from fedcli.formats.manifest import Absence, BoundedClaim, Contribution
    from fedcli.run import Run
    from fedcli.steps.aggregate import AggregateResult
    from fedcli.steps.partial import PartialResult

_SHOWN = 20


def render(result: "AggregateResult", run: "Run", then: Sequence[str]) -> list[RenderableType]:
    """Draw a new global model of ``run``; ``then`` says what to type next."""
    from fedcli.run.participation import COVERED  # needs numpy, which --help does without

    parts: list[RenderableType] = [Text(_headline(result)), _table(result)]
    if len(result.clients) > _SHOWN:
        parts.append(f"… and {len(result.clients) - _SHOWN} more; see aggregate.json")
        dropped = [client.client for client in result.clients if not client.kept]
        if dropped:
            parts.append(Text(f"not kept: {_some(dropped)}"))
    parts += _absent("missing", result.missing)
    parts += _absent("late", result.late)
    parts += _absent("left out", [one for one in result.rejected if one.reason != COVERED])
    if result.unlisted:
        parts.append(Text(f"… and {result.unlisted:,} more that do not count"))
    parts += [Text(f"note: {remark}") for remark in result.remarks]
    parts += _bounded(result.bounded)
    parts.append(Text(f"global model: {result.path} (SHA-256 {result.sha256[:12]})"))
    if result.send:
        parts += to_send(run, "the clients", result.send)
    return [*parts, *then]


def _headline(result: "AggregateResult") -> str:
    given = [_counted(len(result.clients), "update")] if result.clients else []
    given += [_counted(len(result.partials), "partial mean")] if result.partials else []
    weighting = result.weighting if result.weighting == "uniform" else f"by {result.weighting}"
    of = f"round {result.round}: {_rule(result)} of {' and '.join(given)}, weighted {weighting}"
    if result.already_done:
        return f"{of}: already done, nothing changed"
    return f"{of}: {size_of(result.bytes_read)} in {seconds(result.seconds)}"


def _rule(result: "AggregateResult") -> str:
    """Name the strategy, and those parts that its name may not imply."""
    parts = [result.reduce] if result.reduce != result.strategy else []
    parts += [result.server_optimizer] if result.server_optimizer != "sgd" else []
    return f"{result.strategy} ({', '.join(parts)})" if parts else result.strategy


def _table(result: "AggregateResult") -> Table:
    """Return one row per client, without columns that are unknown, or the same, for all."""
    clients = result.clients
    columns: dict[str, Callable[[Contribution], str]] = {}
    if any(client.num_examples is not None for client in clients) or result.partials:
        columns["examples"] = lambda client: _examples(client.num_examples)
    columns["weight"] = lambda client: f"{client.weight:.4f}"
    if any(client.round != result.round for client in clients):
        columns["round"] = lambda client: str(client.round)
    for name in ("norm", "cosine", "distance"):
        if any(getattr(client, name) is not None for client in clients):
            columns[name] = partial(_figure, name=name)
    if not all(client.kept for client in clients):
        columns["kept"] = lambda client: "yes" if client.kept else "no"
    table = figures_table(["client"], list(columns))
    for client in clients[:_SHOWN]:
        table.add_row(client.client, *[cell(client) for cell in columns.values()])
    for part in result.partials:
        clients_in = _counted(part.clients, "client")
        table.add_row(
            f"{part.name} ({clients_in})", _examples(part.num_examples), f"{part.weight:.4f}"
        )
    return table


def _examples(count: int | None) -> str:
    return WITHHELD if count is None else f"{count:,}"


def _figure(client: "Contribution", name: str) -> str:
    value = getattr(client, name)
    if value is None:
        return ""
    return f"{value:.3f}" if name == "cosine" else f"{value:.4g}"


def render_partial(result: "PartialResult", then: str) -> list[RenderableType]:
    """Draw a new partial mean; ``then`` is the command to type next."""
    clients = sum(part.clients for part in result.partials) + len(result.clients)
    done = ": already done, nothing changed" if result.already_done else ""
    of = f" of {_counted(clients, 'client')}" if clients else ""
    return [
        Text(f"round {result.round}: partial mean{of}{done}"),
        Text(f"partial mean: {result.path} (SHA-256 {result.sha256[:12]})"),
        f"next: {then}",
    ]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _bounded(bounded: "Sequence[BoundedClaim]") -> list[Text]:
    """Write one line for what each client claims beyond the bounds."""
    lines = [
        Text(f"bounded: client {one.client}: {one.what} {one.found:.6g} counts as {one.used:.6g}")
        for one in bounded[:_SHOWN]
    ]
    more = len(bounded) - _SHOWN
    return [*lines, Text(f"… and {more} more; see aggregate.json")] if more > 0 else lines


def _absent(what: str, absences: "Sequence[Absence]") -> list[Text]:
    """Write one line per reason."""
    clients: defaultdict[str, list[str]] = defaultdict(list)
    for absence in absences:
        clients[absence.reason].append(absence.client)
    lines = [Text(f"{what} ({reason}): {_some(whose)}") for reason, whose in clients.items()]
    if len(lines) > _SHOWN:
        more = f"… and {what} for {len(lines) - _SHOWN} more reasons; see aggregate.json"
        return [*lines[:_SHOWN], Text(more)]
    return lines


def _some(clients: Sequence[str]) -> str:
    more = f" and {len(clients) - _SHOWN} more" if len(clients) > _SHOWN else ""
    return ", ".join(clients[:_SHOWN]) + more
