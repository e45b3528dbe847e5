"""What files tell of the privacy that was spent: ledgers and updates of clients, and manifests."""

import math
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.ledger import LedgerEntry, PrivacyEvent
from fedcli.formats.metadata import Kind
from fedcli.plan import AggregatePlan, TrainPlan
from fedcli.plan.private_events import privacy_limit, round_event, sum_event, with_noise
from fedcli.privacy import epsilon_at
from fedcli.run.directory import Run
from fedcli.run.info import client_order, is_client_id
from fedcli.run.ledgers import LedgerStore, spent_by_sums
from fedcli.run.round import Round

USUAL_DELTA = 1e-5


class Source(StrEnum):
    """Where it is known from what was spent.

    A ledger has all of it. Updates have what is still there, with an upper bound of q: what they
    replaced, and what other runs spent, is missing. Manifests have what this run spent.
    """

    LEDGER = "ledger"
    UPDATES = "updates"
    MANIFESTS = "manifests"


class Spent(NamedTuple):
    """An event, and the run, the round and the inputs of the step that spent it."""

    run: str
    round: int
    inputs: str
    event: PrivacyEvent


@dataclass(frozen=True)
class Spending:
    """What was spent of the privacy of a client's examples, or of the clients if it names none."""

    client: str | None
    source: Source
    spent: tuple[Spent, ...]

    def events(self, run: str | None = None, up_to: int | None = None) -> list[PrivacyEvent]:
        """Return the events, all of them, or those of a run up to a round."""
        return [
            one.event
            for one in self.spent
            if run is None or (one.run == run and (up_to is None or one.round <= up_to))
        ]

    @property
    def steps(self) -> int:
        """How many steps of fedcli spent it; a step may have several events."""
        return len({one[:3] for one in self.spent})

    def latest(self, run: str) -> list[PrivacyEvent]:
        """Return the events of a step of a run's latest round; an empty list without any."""
        last = max((one[:3] for one in self.spent if one.run == run), default=None)
        return [one.event for one in self.spent if one[:3] == last]


@dataclass(frozen=True)
class SpentBudget:
    """ε at δ so far, and after one more round; None where it has no bound, or is not known.

    ``client`` is None for the clients as a whole. ``steps`` is how many steps of fedcli spent it.
    ``limit`` is what the plan allows, None without a limit.
    """

    client: str | None
    source: Source
    steps: int
    delta: float
    epsilon: float | None
    next_epsilon: float | None
    limit: float | None


@dataclass(frozen=True)
class PrivacyStatus:
    """What a run has spent, by its files.

    ``examples`` has the clients that train in private. Each example is protected by the ε of its
    client, so ``largest`` is that of all of them. ``clients`` is what sums over clients have spent,
    None if no noise hides them.
    """

    examples: tuple[SpentBudget, ...]
    largest: float | None
    clients: SpentBudget | None


def privacy_status(
    run: Run, *, delta: float | None = None, directory: Path | None = None
) -> PrivacyStatus | None:
    """Return what a run has spent; None if nothing is private.

    ``directory`` is the folder of ``--state`` with the ledgers. Raises ``BadInputError`` for a
    ledger or a manifest that cannot be used, ``UsageError`` for a δ outside (0, 1), and
    ``MissingDependencyError`` for samples without ``dp-accounting``.
    """
    train, rule = run.info.plan.train, run.info.plan.aggregate
    at = train.delta or USUAL_DELTA if delta is None else delta
    clients = spending_of_clients(run, directory)
    examples = tuple(_of_client(run, one, train, at) for one in clients)
    sums = _of_sums(run, rule, rule.update_delta or USUAL_DELTA if delta is None else delta)
    if not examples and sums is None:
        return None
    return PrivacyStatus(examples, largest(one.epsilon for one in examples), sums)


def largest(found: Iterable[float | None]) -> float | None:
    """Return the largest ε; None if one of them has no bound, or without any."""
    known = [math.inf if one is None else one for one in found]
    return bounded(max(known)) if known else None


def bounded(epsilon: float) -> float | None:
    """Return ε, and None for one that is infinite: JSON has no such number."""
    return epsilon if math.isfinite(epsilon) else None


def _of_client(run: Run, one: Spending, plan: TrainPlan, delta: float) -> SpentBudget:
    limit = privacy_limit(plan)
    more = one.latest(run.id) or _planned(run, one.client or "", plan)
    return _budget(one, more, delta, None if limit is None else limit.epsilon)


def _of_sums(run: Run, plan: AggregatePlan, delta: float) -> SpentBudget | None:
    one = spending_of_sums(run)
    if not one.spent and plan.update_noise is None:
        return None
    more = one.latest(run.id) or [sum_event(plan)]
    return _budget(one, more, delta, plan.update_max_epsilon)


def _budget(
    one: Spending, more: Sequence[PrivacyEvent], delta: float, limit: float | None
) -> SpentBudget:
    events = one.events()
    after = bounded(epsilon_at([*events, *more], delta)) if more else None
    spent = bounded(epsilon_at(events, delta))
    return SpentBudget(one.client, one.source, one.steps, delta, spent, after, limit)


def _planned(run: Run, client: str, plan: TrainPlan) -> list[PrivacyEvent]:
    """Return what a first round would spend of a client whose examples are in the run."""
    if plan.dp is None:
        return []
    with suppress(NotReadyError, BadInputError), Checkpoint(run.client_shard(client)) as shard:
        count = shard.metadata.num_examples
        return [] if count is None else [round_event(with_noise(plan, count), count)]
    return []


def spending_of_clients(run: Run, directory: Path | None = None) -> tuple[Spending, ...]:
    """Return what each client has spent, by its ledger, or else by its updates in the run.

    Clients of a simulation that is to train in private are listed before they spend anything.
    """
    store = LedgerStore(run, directory)
    holders = set(filter(is_client_id, store.holders()))
    updates: dict[str, list[Spent]] = {}
    if run.info.plan.train.dp is not None:  # else all updates would be opened for nothing
        updates = _spent_by_updates(run, holders)
        holders |= {client for client in run.info.clients if run.client_shard(client).exists()}
    return tuple(
        Spending(client, Source.UPDATES, tuple(updates[client]))
        if client in updates
        else Spending(client, Source.LEDGER, _spent(store.read(client).entries))
        for client in client_order(holders | updates.keys())
    )


def spending_of_sums(run: Run) -> Spending:
    """Return what sums over clients have spent. Raises ``BadInputError`` as ``spent_by_sums``."""
    return Spending(None, Source.MANIFESTS, _spent(spent_by_sums(run).entries))


def _spent(entries: Sequence[LedgerEntry]) -> tuple[Spent, ...]:
    return tuple(Spent(entry.run, entry.round, entry.inputs, entry.event) for entry in entries)


def _spent_by_updates(run: Run, known: Set[str]) -> dict[str, list[Spent]]:
    """Return what updates say of clients that are not known yet."""
    found: dict[str, list[Spent]] = {}
    for round_ in run.rounds():
        for client in round_.delivered():
            if client in known:
                continue
            if (event := _public_event(run, round_, client)) is not None:
                found.setdefault(client, []).append(Spent(run.id, round_.number, "", event))
    return found


def _public_event(run: Run, round_: Round, client: str) -> PrivacyEvent | None:
    """Return what an update says that it spent; None if it says nothing, or cannot be read."""
    with suppress(BadInputError, NotReadyError):
        most = run.largest_update(round_.number)
        with Checkpoint(round_.update(client), Kind.UPDATE, most=most) as update:
            return update.metadata.training.privacy
    return None
