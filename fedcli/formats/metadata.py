"""Metadata of a checkpoint: its kind, its place in the run, the roles of its tensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from fedcli.formats.records import FORMAT, ClientId, Count, Sparse, check_format, decode, encode
from fedcli.formats.training_record import InterruptedRecord, ServerRecord, TrainingRecord
from fedcli.storage.atomic import canonical_json
from fedcli.storage.strict_json import check_memory, parse_json

LISTS_APART = 2  # the format of metadata that a fedcli before such lists cannot follow


class Kind(StrEnum):
    """What a checkpoint is for."""

    GLOBAL = "global"
    UPDATE = "update"
    PARTIAL = "partial"
    CLIENT_STATE = "client-state"
    SERVER_STATE = "server-state"
    SHARD = "shard"
    DELTA = "delta"
    TRAINING = "training"


class Role(StrEnum):
    """What a tensor is, which determines what may be done with it.

    Parameters and buffers are averaged; norms, clipping, noise and server optimizers see parameters
    only; counters stay integers. A control is not a tensor of the model: an update adds it to a
    control variate of the server.
    """

    PARAMETER = "parameter"
    BUFFER = "buffer"
    COUNTER = "counter"
    CONTROL = "control"


@dataclass(frozen=True)
class AdaptiveClip:
    """The norm that clients' steps are clipped to next, and that of the first round.

    Raises ``ValueError`` for numbers that are no norms.
    """

    first: float
    next: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"clip.{name}: expected a norm above 0, found {value}")


@dataclass(frozen=True)
class Metadata(Sparse):
    """The metadata of a checkpoint; see ``docs/run-directory.md``.

    ``tied`` maps second names of a tensor to its first one: a global model holds a tied tensor
    under all of its names, an update only once. ``updates`` are the SHA-256s of the updates that a
    model was made from, ``late`` the rounds of those that were trained for an earlier round, and
    ``partials`` the SHA-256s of partial means. In place of a long list, ``list_sha256`` is the
    SHA-256 of the three, see ``formats.made_from``.
    ``encoding`` describes the codec of an encoded update, whose ``roles`` are only those of control
    variates: the others are those of its base model. ``result`` is the SHA-256 of the model that a
    delta leads to. ``clip`` is the adaptive norm of clients' steps after a round; it stands in the
    global model, which every client gets. Server states have ``server`` in place of ``training``,
    and training checkpoints have ``interrupted``; all three use the key ``training`` in the file.
    """

    kind: Kind
    run: str
    round: Count | None = None
    client: ClientId | None = None
    num_examples: Count | None = None
    base: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    tied: Mapping[str, str] | None = None
    training: TrainingRecord = field(default_factory=TrainingRecord)
    server: ServerRecord | None = field(default=None, metadata={"key": "training"})
    interrupted: InterruptedRecord | None = field(default=None, metadata={"key": "training"})
    seed: Count | None = None
    updates: Mapping[ClientId, str] | None = None
    late: Mapping[ClientId, Count] | None = None
    partials: Mapping[str, str] | None = None
    list_sha256: str | None = None
    weighting: str | None = None
    steps: Count | None = None
    encoding: Mapping[str, Any] | None = None
    result: str | None = None
    clip: AdaptiveClip | None = None
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object, without the keys that are not set."""
        values = encode(self)
        if not values["training"]:
            del values["training"]
        return values

    def encode(self) -> str:
        """Return canonical JSON."""
        return canonical_json(self.as_json()).decode()

    def check_size(self) -> None:
        """Raise ``ValueError`` for metadata that ``decode`` would refuse for its size."""
        values = self.as_json()
        _check_training(values.get("training", {}))
        check_memory(canonical_json(values))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what ``encode`` wrote; unknown keys are ignored.

        Raises ``ValueError`` that says which key is wrong.
        """
        values = parse_json(text)
        if not isinstance(values, dict):
            raise ValueError("its metadata is not a JSON object")
        check_format(values.get("format"), LISTS_APART)
        training = values.pop("training", None)
        found = decode(cls, values, "metadata")
        if training is None:
            return found
        _check_training(training)
        name, record = _RECORDS.get(found.kind, ("training", TrainingRecord))
        return replace(found, **{name: decode(record, training, "metadata", "training")})


def check_counted(found: Metadata) -> None:
    """Raise ``ValueError`` unless an update names its number of examples or may withhold it.

    Private training withholds it, and so does a partial mean of such updates.
    """
    if found.num_examples is None:
        if found.training.privacy is not None or found.kind == Kind.PARTIAL:
            return
    elif found.num_examples >= 1:
        return
    raise ValueError(f"has num_examples {found.num_examples}, expected 1 or more")


def _check_training(training: Any) -> None:
    if len(canonical_json(training)) > _MOST_TRAINING:
        raise ValueError(f"metadata.training takes more than {_MOST_TRAINING} bytes")


_MOST_TRAINING = 100_000  # bytes of JSON; a hundred updates may be open at once
_RECORDS: dict[Kind, tuple[str, type[Any]]] = {
    Kind.SERVER_STATE: ("server", ServerRecord),
    Kind.TRAINING: ("interrupted", InterruptedRecord),
}
