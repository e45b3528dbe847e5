"""What a private training draws from, and what it spends of the client's privacy."""

import hashlib
from dataclasses import dataclass, replace

from fedcli.client.session import Session
from fedcli.formats.ledger import LedgerEntry, Mechanism, PrivacyEvent, Relation
from fedcli.formats.metadata import Metadata
from fedcli.plan import TrainPlan
from fedcli.plan.sampling_rate import public_rate, sampling_rate
from fedcli.run.ledgers import LedgerStore
from fedcli.security.secret_streams import SecretStreams
from fedcli.training.loop import steps_of

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

    def charge(self) -> None:
        """Write to the client's ledger what this step spends, before anything of it can be read.

        Raises what ``LedgerStore.add`` does.
        """
        self.ledgers.add(self.client, self.spent)

    def recall(self) -> None:
        """Charge a step whose update exists, if the ledger knows nothing of it.

        Its inputs may differ in what the machine chose, such as the number of threads, which is no
        event of its own.
        """
        known = self.ledgers.read(self.client).entries
        if not any(_same_step(entry, self.spent) for entry in known):
            self.charge()


def _event(plan: TrainPlan, examples: int, steps: int) -> PrivacyEvent:
    return PrivacyEvent(
        Mechanism.POISSON,
        sigma=plan.noise_multiplier or 0.0,
        clip=plan.clip,
        divisor=float(plan.batch_size),
        relation=Relation.ADD_REMOVE,
        q=sampling_rate(plan.batch_size, examples),
        count=steps,
    )


def public_event(plan: TrainPlan, examples: int, steps: int) -> PrivacyEvent | None:
    """Return what everybody may know of what a training spends; None for one without privacy.

    q itself would tell the number of examples, and makes way for an upper bound.
    """
    if plan.dp is None:
        return None
    spent = _event(plan, examples, steps)
    return replace(spent, q=public_rate(spent.q))


def private_step(session: Session, metadata: Metadata, examples: int) -> PrivateStep | None:
    """Return what the training of an update draws from and spends; None without privacy.

    ``metadata`` describes all inputs of the update, and no result: its SHA-256 keys the streams.
    """
    if session.noise is None:
        return None
    inputs = hashlib.sha256(metadata.encode().encode()).hexdigest()
    number = session.round.number
    spent = _event(session.plan, examples, steps_of(session.plan, examples))
    return PrivateStep(
        session.noise.streams(session.run.id, number, inputs),
        LedgerEntry(session.run.id, number, _ATTEMPT, inputs, spent),
        metadata.client or "",
        session.ledgers,
    )
