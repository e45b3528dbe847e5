"""The tables of one run's clients: their data and models, their updates, their part in rounds."""

from dataclasses import replace

from fedcli.reporting.cells import (
    UNKNOWN,
    Table,
    count,
    decimal,
    duration,
    megabytes,
    percent,
    visible,
    without_empty,
)
from fedcli.reporting.model import ClientReport, Participation, RoundReport, RunReport
from fedcli.reporting.sparkline import bars
from fedcli.reporting.standouts import marks_of


def clients_table(run: RunReport) -> Table:
    """One row a client."""
    columns = (
        "client",
        "examples",
        "labels",
        "loss",
        "acc. (%)",
        "own (%)",
        "val. (%)",
        "test (%)",
        "pers. (%)",
        "weight",
        "up (MB)",
        "time (s)",
        "device",
    )
    rows = tuple(_client_row(client, run.centralised) for client in run.clients)
    table = without_empty(Table("Clients", columns, rows))
    legend = (text for name, text in _CLIENT_LEGEND.items() if name in table.columns)
    return replace(table, note="; ".join(legend))


_CLIENT_LEGEND = {
    "labels": "labels: examples of each class, in order",
    "loss": "loss, acc.: local, after the last epoch",
    "own (%)": "own: the client's own model on the test data",
    "val. (%)": "val.: the global model on the client's held-out examples",
    "test (%)": "test: the global model on the client's test examples",
    "pers. (%)": "pers.: the client's personal model on its own examples",
    "up (MB)": "up: all rounds added up",
    "time (s)": "time: all rounds added up",
}


def _client_row(client: ClientReport, centralised: bool) -> tuple[str, ...]:
    return (
        visible(client.client),
        count(client.examples),
        UNKNOWN if client.label_counts is None else bars(client.label_counts),
        decimal(client.local_loss, 3),
        percent(client.local_accuracy),
        percent(client.own_accuracy),
        percent(client.validation_accuracy),
        percent(client.test_accuracy),
        percent(client.personal_accuracy),
        decimal(client.weight, 3),
        megabytes(0 if centralised else client.bytes_up),
        duration(client.seconds),
        UNKNOWN if client.device is None else visible(client.device),
    )


def compared_round(run: RunReport) -> RoundReport | None:
    """Return the latest complete round that says how its updates compare."""
    rounds = reversed(run.complete_rounds())
    return next((round_ for round_ in rounds if any(map(_is_compared, round_.clients))), None)


def _is_compared(client: Participation) -> bool:
    return client.norm is not None or not client.kept


def updates_table(run: RunReport) -> Table:
    """One row an update of the latest round that compares them; what stands out comes first."""
    round_ = compared_round(run)
    if round_ is None:
        return Table("Updates", ("client",), ())
    numbers = ("client", "examples", "weight", "norm", "cosine", "distance")
    columns = (*numbers, "round", "kept", "stands out")
    marks = {client: found.words for client, found in marks_of(round_).items()}
    some_left_out = not all(client.kept for client in round_.clients)
    ordered = sorted(round_.clients, key=lambda client: client.client not in marks)
    rows = [
        _update_row(round_, client, marks.get(client.client, UNKNOWN), some_left_out)
        for client in ordered
    ]
    rows += [
        (
            f"{visible(partial.name)} ({partial.clients} clients)",
            count(partial.num_examples),
            decimal(partial.weight, 3),
            *(UNKNOWN for _ in columns[3:]),
        )
        for partial in round_.partials
    ]
    table = without_empty(Table(f"Updates of round {round_.number}", columns, tuple(rows)))
    legend = (text for name, text in _LEGEND.items() if name in table.columns)
    return replace(table, note="; ".join(legend))


_LEGEND = {
    "norm": "norm: length of what training changed",
    "cosine": "cosine: with the step of the global model",
    "distance": "distance: from the median of the updates",
    "round": "round: that a late update was trained for",
    "kept": "kept: whether the rule used it",
    "stands out": "×: times the median",
}


def _update_row(
    round_: RoundReport, client: Participation, marks: str, some_left_out: bool
) -> tuple[str, ...]:
    late = client.update_round < round_.number
    kept = "yes" if client.kept else "no"
    return (
        visible(client.client),
        count(client.num_examples),
        decimal(client.weight, 3),
        significant(client.norm),
        decimal(client.cosine, 2),
        significant(client.distance),
        str(client.update_round) if late else UNKNOWN,
        kept if some_left_out else UNKNOWN,
        marks,
    )


def significant(value: float | None) -> str:
    """Write a number of any size with three digits."""
    return UNKNOWN if value is None else f"{value:#.3g}".removesuffix(".")


def participation_table(run: RunReport) -> Table:
    """One row a client: in how many rounds it took part. Without rows where all always did."""
    columns = ("client", "took part", "drawn", "missing", "late", "rejected", "used late")
    rounds = [round_ for round_ in run.complete_rounds() if round_.strategy]
    rows = tuple(_participation_row(client) for client in run.clients)
    if not any(_was_absent(client) for client in run.clients):
        rows = ()
    table = without_empty(Table(f"Who took part in {len(rounds)} rounds", columns, rows))
    notes = [text for name, text in _HISTORY_LEGEND.items() if name in table.columns]
    if within := sum(round_.clients_in_partials for round_ in rounds):
        notes.append(f"not listed: {within} updates that came within partial means")
    return replace(table, note="; ".join(notes))


_HISTORY_LEGEND = {
    "drawn": "drawn: sampled for the round",
    "late": "late: updates that came after their round",
    "used late": "used late: updates that counted in a later round",
}


def _was_absent(client: ClientReport) -> bool:
    return bool(client.missing or client.late or client.rejected or client.stale) or (
        client.sampled is not None
    )


def _participation_row(client: ClientReport) -> tuple[str, ...]:
    def some(number: int) -> str:
        return str(number) if number else UNKNOWN

    return (
        visible(client.client),
        str(client.rounds),
        count(client.sampled),
        some(client.missing),
        some(client.late),
        some(client.rejected),
        some(client.stale),
    )
