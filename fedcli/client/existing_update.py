"""Check whether a client's update exists, and whether the same inputs made it."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcli.codecs import PLAIN
from fedcli.datasets.shards import Examples
from fedcli.errors import BadInputError, ConflictError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.records import encode
from fedcli.plan.comparison import OtherOption
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.run.used_updates import origin_of
from fedcli.security.signatures import signature_fault
from fedcli.storage.atomic import canonical_json

if TYPE_CHECKING:
    from fedcli.client.session import Session

_OPAQUE = {
    "base": "another base model",
    "examples": "other examples, or another key of their digest",
    "noise_key": "another noise key",
}


@dataclass(frozen=True)
class ExistingUpdate:
    """An update that exists."""

    path: Path
    sha256: str
    bytes: int


def fingerprint(examples: Examples) -> str:
    """Return the SHA-256 of labels and examples, hex."""
    sha256 = hashlib.sha256(np.ascontiguousarray(examples.y).data)
    sha256.update(np.ascontiguousarray(examples.x).data)
    return sha256.hexdigest()


def find_existing(
    session: "Session", expected: Metadata, plain: str | None = None
) -> ExistingUpdate | None:
    """Return a client's update if it exists and was made from the expected inputs.

    An update of fedcli before keyed digests names its examples by their ``plain`` SHA-256.
    Raises ``ConflictError`` that says what differs, and ``BadInputError`` for a broken file.
    """
    path = session.round.update(expected.client or "")
    if not path.exists():
        return None
    try:
        most = session.run.largest_update(session.round.number)
        with Checkpoint(path, Kind.UPDATE, most=most) as update:
            found, delivered = update.metadata, ExistingUpdate(path, update.digest(), update.size)
    except BadInputError as error:
        raise error.amended(hint="--force trains it again") from None
    if found.training.examples == plain:
        training = replace(expected.training, examples=plain)
        expected = replace(expected, num_examples=found.num_examples, training=training)
    if differences := _differences(session, found, expected):
        raise ConflictError(
            f"was trained from other inputs ({', '.join(differences)})",
            hint="train-client with --force trains it again and replaces it",
            path=path,
        )
    return delivered


def why_unfinished(session: "Session", client: str, delivered: ExistingUpdate) -> str | None:
    """Return why a client whose update exists must train again, or None.

    An update without a valid signature is never signed afterwards: anybody may have put it there.
    Raises ``ConflictError`` if its round is complete.
    """
    round_ = session.round
    if fault := signature_fault(session.run, round_, client, delivered.sha256):
        check_replaceable(round_, client)
        return f"its update {fault}"
    if _lacks_shares(session.run, round_, client, delivered.sha256):
        check_replaceable(round_, client)
        return "its shares are gone, or were changed"
    if session.keeps_state and not session.states.goes_with_update(round_.number, client):
        return "its state is gone, or belongs to another training"
    return None


def _lacks_shares(run: Run, round_: Round, client: str, sha256: str) -> bool:
    """Return whether a masked update is without the shares that were signed with it."""
    path = round_.shares(client)
    if run.info.plan.secagg is None:
        return False
    return not path.exists() or bool(signature_fault(run, round_, client, sha256, digest(path)))


def check_not_used(run: Run, round_: Round, client: str) -> None:
    """Raise ``ConflictError`` if a global model was made from an update that is gone.

    With another update in its place, the run would misdescribe that model.
    """
    if not round_.global_model.exists():
        return
    since = [one for one in run.complete_rounds() if one.number >= round_.number]
    if any(_used(one, client, round_.number) for one in since):
        raise ConflictError(
            "is gone, and a global model was made from it",
            hint="omit --round to train for the open round; only a copy can replace it",
            path=round_.update(client),
        )


def _used(round_: Round, client: str, number: int) -> bool:
    made = origin_of(round_)
    if made is None or client not in made.updates:
        return False
    return made.late.get(client, round_.number) == number


def check_replaceable(round_: Round, client: str) -> None:
    """Raise ``ConflictError`` if a global model may have been made from this update."""
    if round_.global_model.exists() and round_.update(client).exists():
        raise ConflictError(
            f"round {round_.number} is complete, and its global model may"
            " have been made from this update",
            hint=f"if later rounds do not matter, remove {round_.global_model} first",
            path=round_.update(client),
        )


def _differences(session: "Session", found: Metadata, expected: Metadata) -> list[str]:
    """Describe the inputs in which two updates differ."""
    old = _facts(found, with_loss=found.training.initial_loss is not None)
    new = _facts(expected, with_loss=session.plan.initial_loss)
    undecided = session.undecided | {"training", "privacy"}  # they follow from the others
    if old.get("encode") != new.get("encode"):
        undecided |= {"encoding", "roles"}  # they follow from it
    if (old.get("micro_batch") or math.inf) <= (new.get("micro_batch") or 0):
        undecided |= {"micro_batch"}  # out of memory, training shrinks the requested one
    return [
        _OPAQUE.get(key) or str(OtherOption(key, old.get(key), new.get(key)))
        for key in new | old
        if key not in undecided and canonical_json(old.get(key)) != canonical_json(new.get(key))
    ]


def _facts(metadata: Metadata, *, with_loss: bool) -> dict[str, Any]:
    """Flatten the inputs in metadata, among them whether the initial loss was requested.

    The loss itself, and the controls that an algorithm sends, are results.
    """
    facts = {"encode": PLAIN, **metadata.as_json(), **encode(metadata.training)}
    roles = {name: role for name, role in metadata.roles.items() if role != Role.CONTROL}
    return {**facts, "roles": roles, "initial_loss": with_loss}
