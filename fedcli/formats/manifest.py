"""``aggregate.json``: what went into a round's global model, and what did not."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fedcli.formats.ledger import LedgerEntry
from fedcli.formats.records import MANY, ClientId, Count, FileRecord


def in_all(counts: Iterable[int | None]) -> int | None:
    """Return the sum of numbers of examples; None if one of them is withheld."""
    told = list(counts)
    return None if None in told else sum(count for count in told if count is not None)


@dataclass(frozen=True)
class Contribution:
    """One update that was combined; ``bytes`` is the size of its file, if nothing is withheld.

    ``weight`` is the rule's coefficient of the update if the rule has coefficients, else the share
    it was given. ``round`` is the round the update was trained for. ``norm`` is |Δ|, the Euclidean
    norm of the change in training; ``cosine`` the cosine between Δ and the step of the global
    model; ``distance`` the distance between Δ and the coordinate-wise median of all clients' Δ,
    estimated for large models. All three cover parameters only and have six digits; None if not
    measured. ``kept`` is whether the rule used the update. ``steps`` is the number of local steps
    as far as the client's claim counts; ``departures`` are the options of training that differ from
    the run's plan, with the client's values. ``num_examples`` is None where it is withheld.
    """

    client: ClientId
    sha256: str
    num_examples: Count | None
    weight: float
    bytes: Count | None
    round: Count
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    kept: bool = True
    steps: Count | None = field(default=None, metadata={"sparse": True})
    departures: dict[str, Any] = field(default_factory=dict, metadata={"sparse": True})


@dataclass(frozen=True)
class PartialContribution:
    """A partial mean that was combined: the name of its file, and its number of clients."""

    name: str
    sha256: str
    clients: Count
    num_examples: Count | None
    weight: float
    bytes: Count


@dataclass(frozen=True)
class Absence:
    """A client that is not in the global model, and why.

    ``round`` is the round of the update that does not count; None without an update. ``sha256`` is
    the digest of a bad update, if it can be read.
    """

    client: ClientId
    reason: str
    round: Count | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class BoundedClaim:
    """What a client claims, or sends beside its parameters, that counted only within a bound.

    ``what`` is ``num_examples``, ``steps``, ``initial_loss`` or ``length`` (of the steps, as
    FedNova counts them); or a tensor that is not a parameter: then ``found`` is how far it lies
    from the median of the updates, or the largest count, and ``used`` what was left of that.
    """

    client: ClientId
    what: str
    found: float
    used: float


@dataclass(frozen=True)
class Manifest(FileRecord):
    """What a global model was made from. The digests are SHA-256s, hex.

    ``options`` are the rule's options as used, ``limits`` the bounds on every update.
    ``downlink`` is how the model's step was encoded, ``delta`` the digest of the file with it.
    ``server_state`` is the digest of the state kept for the next round. ``sampled`` is None if all
    clients were to take part. ``accepted`` is in the order of summation. ``unlisted`` is how many
    more updates and clients are missing, late or rejected than are listed. ``bounded`` lists what
    counted less than clients claim, ``remarks`` what else a person should know. ``versions``
    are those of the programs that aggregated, ``processor`` is the model that they ran on. Only
    ``seconds`` differs between two aggregations of the same inputs by them.

    ``client_level`` holds the options that protect the clients, as used; empty if nothing does.
    With noise, figures that depend on single clients are None. ``privacy`` is what this and all
    earlier aggregations of the round spent.
    """

    room = MANY

    round: Count
    strategy: str
    reduce: str
    server_optimizer: str
    weighting: str
    options: dict[str, Any]
    base: str
    global_model: str = field(metadata={"key": "global"})
    server_state: str | None
    sampled: tuple[ClientId, ...] | None
    accepted: tuple[Contribution, ...]
    partials: tuple[PartialContribution, ...]
    missing: tuple[Absence, ...]
    late: tuple[Absence, ...]
    rejected: tuple[Absence, ...]
    seconds: float
    limits: dict[str, Any] = field(default_factory=dict)
    unlisted: Count = 0
    bounded: tuple[BoundedClaim, ...] = field(default=(), metadata={"sparse": True})
    remarks: tuple[str, ...] = field(default=(), metadata={"sparse": True})
    versions: dict[str, str] = field(default_factory=dict, metadata={"sparse": True})
    processor: str | None = field(default=None, metadata={"sparse": True})
    downlink: dict[str, Any] = field(default_factory=dict, metadata={"sparse": True})
    delta: str | None = field(default=None, metadata={"sparse": True})
    client_level: dict[str, Any] = field(default_factory=dict, metadata={"sparse": True})
    privacy: tuple[LedgerEntry, ...] = field(default=(), metadata={"sparse": True})
