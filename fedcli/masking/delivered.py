"""Masked updates as they lie in a round: checked against their signatures, read as integers."""

from collections.abc import Iterable

import numpy as np

from fedcli.errors import BadInputError, NotReadyError, UpdateError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.masked import MaskedFiles
from fedcli.formats.metadata import Kind
from fedcli.masking.cohort import Cohort
from fedcli.masking.masks import Words
from fedcli.masking.rounds import MASKED, MOST_UNREAD, cohort_of, mask_encoding, read_shares
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import signature_fault


def check_delivery(run: Run, round_: Round, cohort: Cohort, client: str, base: str) -> MaskedFiles:
    """Return the SHA-256s of a client's masked update and of its shares.

    ``base`` is the SHA-256 of the round's base model. Raises ``UpdateError`` for an update that is
    not masked as planned, not signed together with its shares, or of another place.
    """
    path = round_.update(client)
    try:
        with Checkpoint(path, Kind.UPDATE, most=run.largest_update(round_.number)) as update:
            check_masked(run, round_, cohort, client, update)
            if update.metadata.base != base:
                raise ValueError(f"was trained from another base model than {base}")
            sha256 = update.read_through()
        _check_shares_there(round_, client)
        shares = digest(round_.shares(client), most=MOST_UNREAD)
        if fault := signature_fault(run, round_, client, sha256, shares):
            raise ValueError(fault)
        read_shares(cohort, round_, client, sha256)
    except BadInputError as error:
        raise UpdateError(error.about(path), path=path, client=client) from None
    except ValueError as error:
        raise UpdateError(str(error), path=path, client=client) from None
    return MaskedFiles(sha256, shares)


def masked_refusals(run: Run, round_: Round, clients: Iterable[str]) -> list[UpdateError]:
    """Return why masked updates cannot take part in a round. Raises what ``digest`` does."""
    cohort, errors = cohort_of(run, round_), []
    base = digest(run.round(round_.number - 1).global_model)
    for client in clients:
        try:
            check_delivery(run, round_, cohort, client, base)
        except UpdateError as error:
            errors.append(error)
    return errors


def _check_shares_there(round_: Round, client: str) -> None:
    if not round_.shares(client).exists():
        raise ValueError(f"has no shares: {round_.shares(client).name} is missing")


def check_masked(run: Run, round_: Round, cohort: Cohort, client: str, update: Checkpoint) -> None:
    """Raise ``ValueError`` unless an update belongs to its place and is masked as planned."""
    found, encoding = update.metadata, mask_encoding(run, cohort)
    for what, expected, value in (
        ("belongs to run", run.id, found.run),
        ("belongs to round", round_.number, found.round),
        ("belongs to client", client, found.client),
        ("is encoded as", encoding, dict(found.encoding or {})),
    ):
        if value != expected:
            raise ValueError(f"{what} {value}, expected {expected}")
    info = update.layout.get(MASKED)
    if len(update.layout) != 1 or info is None or info.dtype != np.uint32 or len(info.shape) != 1:
        raise ValueError(f"expected one tensor {MASKED!r} of uint32 values")


def add_masked(run: Run, round_: Round, files: dict[str, str], size: int) -> Words:
    """Return the sum modulo 2³² of masked updates with these SHA-256s by client.

    Raises ``UpdateError`` for one that is missing, changed, or of another size.
    """
    total = np.zeros(size, np.uint32)
    for client, sha256 in files.items():
        total += _read_words(run, round_, client, sha256, size)
    return total


def _read_words(run: Run, round_: Round, client: str, sha256: str, size: int) -> Words:
    path = round_.update(client)
    try:
        with Checkpoint(path, Kind.UPDATE, most=run.largest_update(round_.number)) as update:
            tensors, found = update.tensors_and_digest()
    except (BadInputError, NotReadyError) as error:
        raise UpdateError(error.about(path), path=path, client=client) from None
    words = tensors.get(MASKED)
    if found != sha256 or words is None or words.shape != (size,):
        raise UpdateError(
            f"is not the update in {round_.survivors}: SHA-256 {found}, expected {sha256}",
            hint=f"ask client {client} for it again",
            path=path,
            client=client,
        )
    return words
