"""Whether a client's update is there already, and was made from the same inputs."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcli.datasets.shards import Examples
from fedcli.errors import CheckpointError, ConflictError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.records import encode
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import signature_fault
from fedcli.storage.atomic import canonical_json

if TYPE_CHECKING:
    from fedcli.client.session import Session

_OPAQUE = {"base": "another base model", "examples": "other examples"}


@dataclass(frozen=True)
class ExistingUpdate:
    """An update that is there."""

    path: Path
    sha256: str
    bytes: int


def fingerprint(examples: Examples) -> str:
    """Return the SHA-256 of labels and examples, hex: the same for the same examples only."""
    sha256 = hashlib.sha256(np.ascontiguousarray(examples.y).data)
    sha256.update(np.ascontiguousarray(examples.x).data)
    return sha256.hexdigest()


def find_existing(session: "Session", expected: Metadata) -> ExistingUpdate | None:
    """Return the update of a client if it is there and was made from the expected inputs.

    Raises ``ConflictError`` that says what differs, and ``CheckpointError`` when the file is
    broken.
    """
    path = session.round.update(expected.client or "")
    if not path.exists():
        return None
    try:
        with Checkpoint(path, Kind.UPDATE) as update:
            found, delivered = update.metadata, ExistingUpdate(path, update.digest(), update.size)
    except CheckpointError as error:
        raise error.amended(hint="--force trains it again") from None
    if differences := _differences(session, found, expected):
        raise ConflictError(
            f"was trained from other inputs ({', '.join(differences)})",
            hint="train-client with --force trains it again and replaces it",
            path=path,
        )
    return delivered


def why_unfinished(session: "Session", client: str, delivered: ExistingUpdate) -> str | None:
    """Say why a client whose update is there has to train again; None where it has not.

    An update without a good signature is not signed now: anybody may have put it there. Raises
    ``ConflictError`` for one of a complete round.
    """
    round_ = session.round
    if fault := signature_fault(session.run, round_, client, delivered.sha256):
        check_replaceable(round_, client)
        return f"its update {fault}"
    if session.keeps_state and not session.states.goes_with_update(round_.number, client):
        return "its state is gone, or of another training"
    return None


def check_not_used(run: Run, round_: Round, client: str) -> None:
    """Raise ``ConflictError`` when a global model was made from an update that is gone.

    Another one in its place would make the run say something wrong of that model.
    """
    if not round_.global_model.exists():
        return
    since = (one for one in run.complete_rounds() if one.number >= round_.number)
    manifests = (Manifest.try_read(one.manifest) for one in since)
    used = ((e.round, e.client) for m in manifests if m is not None for e in m.accepted)
    if (round_.number, client) in used:
        raise ConflictError(
            "is gone, and a global model was made from it",
            hint="leave --round out to train for the open round; only a copy can take its place",
            path=round_.update(client),
        )


def check_replaceable(round_: Round, client: str) -> None:
    """Raise ``ConflictError`` when a global model may have been made from this update."""
    if round_.global_model.exists() and round_.update(client).exists():
        raise ConflictError(
            f"round {round_.number} is complete, and its global model may"
            " have been made from this update",
            hint=f"only where no later round counts: remove {round_.global_model} first",
            path=round_.update(client),
        )


def _differences(session: "Session", found: Metadata, expected: Metadata) -> list[str]:
    """Name what differs between two updates, hyper-parameter by hyper-parameter."""
    old = _facts(found, with_loss=found.training.initial_loss is not None)
    new = _facts(expected, with_loss=session.plan.initial_loss)
    undecided = session.undecided | {"training"}
    if (old.get("micro_batch") or math.inf) <= (new.get("micro_batch") or 0):
        undecided |= {"micro_batch"}  # it may have become smaller than asked for
    return [
        _OPAQUE.get(key, f"{key} {old.get(key)}, now {new.get(key)}")
        for key in new | old
        if key not in undecided and canonical_json(old.get(key)) != canonical_json(new.get(key))
    ]


def _facts(metadata: Metadata, *, with_loss: bool) -> dict[str, Any]:
    """Flatten metadata; of the loss at the start only whether it was asked for is an input.

    The controls that an algorithm sends are what came out.
    """
    facts = {**metadata.as_json(), **encode(metadata.training)}
    roles = {name: role for name, role in metadata.roles.items() if role != Role.CONTROL}
    return {**facts, "roles": roles, "initial_loss": with_loss}
