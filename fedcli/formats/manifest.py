"""``aggregate.json``: what went into a round's global model, and what did not."""

from dataclasses import dataclass, field
from typing import Any

from fedcli.formats.records import ClientId, Count, FileRecord


@dataclass(frozen=True)
class Contribution:
    """One update that was combined; ``bytes`` is the size of its file.

    ``weight`` is what the update counts: the rule's coefficient where it has one, else the share
    that it was given. ``round`` is the round that it was trained for. ``norm`` is |Δ|, the
    Euclidean norm of what training changed; ``cosine`` that of the angle between Δ and the step
    of the global model; ``distance`` that between Δ and the coordinate-wise median of all
    clients' Δ, estimated where the model is large. All three are of parameters only, with six
    digits; None where they were not measured. ``kept`` says whether the rule used it.
    """

    client: ClientId
    sha256: str
    num_examples: Count
    weight: float
    bytes: Count
    round: Count
    norm: float | None = None
    cosine: float | None = None
    distance: float | None = None
    kept: bool = True


@dataclass(frozen=True)
class PartialContribution:
    """A partial mean that was combined: the file's name, and how many clients are in it."""

    name: str
    sha256: str
    clients: Count
    num_examples: Count
    weight: float
    bytes: Count


@dataclass(frozen=True)
class Absence:
    """A client that is not in the global model, and why.

    ``round`` is that of the update that does not count; None where there is no update. ``sha256``
    is that of an update that was found to be bad, where it can be read.
    """

    client: ClientId
    reason: str
    round: Count | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Manifest(FileRecord):
    """What a global model was made from. The digests are SHA-256s, hex.

    ``options`` are those of the rule as used, ``limits`` what no update was to exceed.
    ``server_state`` is the digest of what is kept for the next round. ``sampled`` is None where all
    clients were to take part. ``accepted`` is in the order of the sum. ``seconds`` is all that
    differs between two aggregations of the same inputs.
    """

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
