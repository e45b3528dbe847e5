"""What a private training draws from, and what it spends of the client's privacy."""

import hashlib
from dataclasses import dataclass, replace

from fedcli.client.session import Session
from fedcli.formats.ledger import LedgerEntry, PrivacyEvent
from fedcli.formats.metadata import Metadata
from fedcli.plan import TrainPlan
from fedcli.plan.private_events import public_round_event, round_event
from fedcli.privacy import PrivacyLimit
from fedcli.run.ledgers import LedgerStore
from fedcli.security.secret_streams import SecretStreams

_ATTEMPT = 1


def _same_step(one: LedgerEntry, other: LedgerEntry) -> bool:
    return replace(one, inputs=other.inputs) == other


@dataclass(frozen=True)
class PrivateStep:
    """The secret streams of a training, and what it spends, which only its client may know."""

    streams: SecretStreams
    spent: LedgerEntry
    client: str
    ledgers: LedgerStore
    limit: PrivacyLimit | None

    def check(self) -> None:
        """Raise ``BudgetError`` if this step would pass the limit, and what ``read`` does."""
        known = self.ledgers.read(self.client)
        if self.limit is not None:
            path = self.ledgers.path(self.client)
            self.limit.check(known, [self.spent], path=path, client=self.client)

    def charge(self) -> None:
        """Write to the client's ledger what this step spends, before anything of it can be read.

        Raises what ``LedgerStore.add`` does.
        """
        self.ledgers.add(self.client, self.spent, self.limit)

    def recall(self) -> None:
        """Charge a step whose update exists, if the ledger knows nothing of it.

        Its inputs may differ in what the machine chose, such as the number of threads, which is no
        event of its own.
        """
        known = self.ledgers.read(self.client).entries
        if not any(_same_step(entry, self.spent) for entry in known):
            self.ledgers.add(self.client, self.spent)


def public_event(plan: TrainPlan, examples: int) -> PrivacyEvent | None:
    """Return what everybody may know of what a training spends; None for one without privacy.

    q itself would tell the number of examples, and makes way for an upper bound.
    """
    return None if plan.dp is None else public_round_event(plan, examples)


def private_step(
    session: Session, metadata: Metadata, examples: int, limit: PrivacyLimit | None
) -> PrivateStep | None:
    """Return what the training of an update draws from and spends; None without privacy.

    ``metadata`` describes all inputs of the update, and no result: its SHA-256 keys the streams.
    """
    if session.noise is None:
        return None
    inputs = hashlib.sha256(metadata.encode().encode()).hexdigest()
    number = session.round.number
    spent = round_event(session.plan, examples)
    return PrivateStep(
        session.noise.streams(session.run.id, number, inputs),
        LedgerEntry(session.run.id, number, _ATTEMPT, inputs, spent),
        metadata.client or "",
        session.ledgers,
        limit,
    )
