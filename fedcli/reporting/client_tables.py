"""Tables of the clients of one run: their data and models, their updates, who took part."""

from dataclasses import replace

from fedcli.formats.manifest import PartialContribution
from fedcli.reporting.columns import CLIENTS, PARTICIPATION, UPDATES, UpdateRow
from fedcli.reporting.layout import CellKind, Heading, Table, tabulate
from fedcli.reporting.run_report import ClientReport, ClientRound, RoundReport, RunReport
from fedcli.reporting.standouts import marks_over
from fedcli.text import printable

_CLIENT = Heading("client", CellKind.TEXT)


def clients_table(run: RunReport, *, bars: bool = True) -> Table:
    """Return one row per client; in a centralised run it sends nothing.

    ``bars`` are drawn of characters that some fonts lack.
    """
    clients = run.clients
    if run.centralised:
        clients = tuple(replace(client, bytes_up=0, bytes_down=0) for client in clients)
    rows = ((printable(client.client), client) for client in clients)
    columns = [column for column in CLIENTS if bars or column.kind != CellKind.BARS]
    return tabulate("Clients", _CLIENT, columns, rows)


def updates_table(run: RunReport) -> Table:
    """Return one row per update of the latest round that compares them, marked ones first."""
    round_ = _compared_round(run)
    if round_ is None:
        return Table("Updates", (_CLIENT,), ())
    marks = {
        client: own[round_.number].words
        for client, own in marks_over(run.complete_rounds()).items()
        if round_.number in own
    }
    updates = [UpdateRow(round_, client, marks.get(client.client)) for client in round_.clients]
    updates.sort(key=lambda update: update.marks is None)
    updates += [
        UpdateRow(round_, _as_client(partial, round_.number)) for partial in round_.partials
    ]
    rows = ((printable(update.client.client), update) for update in updates)
    return tabulate(f"Updates of round {round_.number}", _CLIENT, UPDATES, rows)


def _compared_round(run: RunReport) -> RoundReport | None:
    """Return the latest complete round that says how its updates compare."""
    rounds = reversed(run.complete_rounds())
    return next((round_ for round_ in rounds if any(map(_is_compared, round_.clients))), None)


def _is_compared(client: ClientRound) -> bool:
    return client.norm is not None or not client.kept


def _as_client(partial: PartialContribution, number: int) -> ClientRound:
    name = f"{partial.name} ({partial.clients} clients)"
    return ClientRound(name, partial.num_examples, partial.weight, partial.bytes, number)


def participation_table(run: RunReport) -> Table:
    """Return how often each client took part; no rows if all always did."""
    rounds = [round_ for round_ in run.complete_rounds() if round_.strategy]
    within = sum(round_.clients_in_partials for round_ in rounds)
    clients = run.clients if any(map(_was_absent, run.clients)) else ()
    return tabulate(
        f"Who took part in {len(rounds)} rounds",
        _CLIENT,
        PARTICIPATION,
        ((printable(client.client), client) for client in clients),
        *([f"not listed: {within} updates that came within partial means"] if within else []),
    )


def _was_absent(client: ClientReport) -> bool:
    counts = (client.missing, client.late, client.rejected, client.stale)
    return any(counts) or client.sampled is not None
