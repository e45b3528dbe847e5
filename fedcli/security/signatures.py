"""Signatures of updates and global models, valid for one run, round and client.

The signed statement says that a file of this SHA-256 has this place in this run, so a copy in
another place is not signed there. A signature is written before its file, so that a killed process
leaves no file unsigned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import BadInputError, UsageError
from fedcli.formats.metadata import Kind
from fedcli.formats.public_key import ALGORITHM
from fedcli.formats.records import FileRecord, Sparse, encode
from fedcli.run import Run
from fedcli.run.next_command import aggregate_command, train_command
from fedcli.run.round import Round
from fedcli.security.keys import SigningKey, read_key, verifies
from fedcli.storage.atomic import canonical_json
from fedcli.text import brief

DOMAIN = b"fedcli-signature-1\n"  # domain separation from other programs


@dataclass(frozen=True)
class Statement(Sparse):
    """The signed statement: the place of a file in a run. SHA-256s are hex.

    ``client`` is set for updates, ``server_state`` for global models with a server state, and
    ``shares`` for masked updates: the SHA-256 of the file of shares.
    """

    kind: str
    run: str
    round: int
    sha256: str
    client: str | None = None
    server_state: str | None = None
    shares: str | None = None

    def message(self) -> bytes:
        """Return the bytes to sign."""
        return DOMAIN + canonical_json(encode(self))


@dataclass(frozen=True)
class Signature(FileRecord):
    """A signature file; ``signature`` is base64."""

    algorithm: str
    signed: Statement
    signature: str


def member_keys(run: Run, clients: Sequence[str], path: Path | None) -> dict[str, SigningKey]:
    """Read the keys for signing updates of these clients; none in a run without members.

    Raises what ``member_key`` does.
    """
    found = {client: member_key(run, client, path) for client in clients}
    return {client: key for client, key in found.items() if key is not None}


def member_key(run: Run, client: str, path: Path | None) -> SigningKey | None:
    """Read the key for signing updates of a client; None in a run without members.

    A simulation has the keys of its clients. Raises ``UsageError`` for a missing or superfluous
    key, and for one that lies in another run or is not the client's; and what ``read_key`` does.
    """
    expected = run.info.members.get(client)
    if not run.info.members:
        _check_not_given(path, "updates of this run are not signed: init had no --member")
        return None
    key = _read(run, run.member_key(client), path)
    if key is None:
        raise UsageError(
            f"--key: updates of this run are signed; give the private key of client {client}",
            hint=train_command(run, [client]),
        )
    if key.public != expected:
        raise UsageError(
            f"--key {key.path}: is not the key of client {client}: expected {expected},"
            f" found {key.public}"
        )
    return key


def _read(run: Run, own: Path, path: Path | None) -> SigningKey | None:
    """Read the key of a party: in a simulation its ``own`` one in the run, else that of ``path``.

    None for neither. Others read the run, so no other key may lie there.
    """
    if run.has_keys and (path is None or path.resolve() == own.resolve()):
        return read_key(own, outside=None)
    return None if path is None else read_key(path, outside=run.root)


def coordinator_key(run: Run, path: Path | None) -> SigningKey | None:
    """Read the key for signing global models; None in a run without a coordinator.

    Raises what ``member_key`` does.
    """
    expected = run.info.coordinator
    if expected is None:
        _check_not_given(path, "global models of this run are not signed: init had no --key")
        return None
    key = _read(run, run.coordinator_key, path)
    if key is None:
        raise UsageError(
            "--key: global models of this run are signed; give the coordinator's private key",
            hint=aggregate_command(run),
        )
    if key.public != expected:
        raise UsageError(
            f"--key {key.path}: is not the coordinator's key: expected {expected},"
            f" found {key.public}"
        )
    return key


def _check_not_given(path: Path | None, why: str) -> None:
    if path is not None:
        raise UsageError(f"--key: {why}", hint="leave --key out")


def check_no_partials(run: Run) -> None:
    """Raise ``UsageError`` in a run with members: a partial mean hides who is in it."""
    if run.info.plan.secagg is not None:
        raise UsageError(
            "--partial: masked updates are added up where their shares and signatures are; a sum of"
            " some of them has neither, and nobody could take its masks off",
            hint=aggregate_command(run),
        )
    if run.info.members:
        raise UsageError(
            "--partial: a partial mean carries no signatures of the updates in it, and this run"
            " needs them",
            hint=aggregate_command(run),
        )


def sign_update(
    run: Run, round_: Round, client: str, sha256: str, key: SigningKey, shares: str | None = None
) -> None:
    """Write the signature of an update of this SHA-256 before it is published.

    ``shares`` is the SHA-256 of the shares of a masked one.
    """
    kind = Kind.UPDATE.value
    statement = Statement(kind, run.id, round_.number, sha256, client=client, shares=shares)
    _write(round_.signature(client), statement, key)


def sign_global(
    run: Run, round_: Round, sha256: str, server_state: str | None, key: SigningKey
) -> None:
    """Write the signature of a global model of this SHA-256 before it is published.

    ``server_state`` is the SHA-256 of the server state that belongs to it.
    """
    statement = Statement(
        Kind.GLOBAL.value, run.id, round_.number, sha256, server_state=server_state
    )
    _write(round_.global_signature, statement, key)


def _write(path: Path, statement: Statement, key: SigningKey) -> None:
    Signature(ALGORITHM, statement, key.sign(statement.message())).write(path)


def signature_fault(
    run: Run, round_: Round, client: str, sha256: str | None, shares: str | None = None
) -> str | None:
    """Return what is wrong with the signature of an update of this SHA-256, or None.

    ``shares`` is the SHA-256 of the shares beside it, if they are to be checked.

    In a run without members, nothing is. Without a SHA-256, which requires reading the update, all
    else is checked. Raises ``StorageError`` and ``MissingDependencyError``.
    """
    if not run.info.members:
        return None
    if client not in run.info.members:
        return "is of no member of this run"
    expected = _place(run, round_, Kind.UPDATE) | {"client": client, "server_state": None}
    if sha256 is not None:
        expected["sha256"] = sha256
    if shares is not None:
        expected["shares"] = shares
    public = run.info.members[client]
    return _fault(round_.signature(client), expected, public, f"client {client}")


def global_fault(run: Run, round_: Round, sha256: str) -> str | None:
    """Return what is wrong with the signature of a global model of this SHA-256, or None.

    In a run without a coordinator, nothing is. Raises what ``signature_fault`` does.
    """
    return _coordinator_fault(run, round_, {"sha256": sha256})


def _coordinator_fault(run: Run, round_: Round, claims: Mapping[str, object]) -> str | None:
    public = run.info.coordinator
    if public is None:
        return None
    expected = {**_place(run, round_, Kind.GLOBAL), "client": None, **claims}
    return _fault(round_.global_signature, expected, public, "the coordinator")


def check_global(run: Run, round_: Round, sha256: str) -> None:
    """Raise ``BadInputError`` unless the coordinator signed a global model of this SHA-256.

    Raises also what ``global_fault`` does.
    """
    _check(run, round_.global_model, global_fault(run, round_, sha256))


def signed_server_state(run: Run, round_: Round, sha256: str) -> str | None:
    """Return the SHA-256 of the server state that was signed with a global model; None for none.

    Raises ``BadInputError`` unless the coordinator signed a global model of this SHA-256, and what
    ``global_fault`` does.
    """
    check_global(run, round_, sha256)
    found = Signature.read(round_.global_signature)
    return None if found is None else found.signed.server_state


def check_server_state(run: Run, round_: Round, sha256: str | None) -> None:
    """Raise ``BadInputError`` unless the coordinator signed a server state of this SHA-256.

    None stands for a round without server state. Raises also what ``global_fault`` does.
    """
    _check(run, round_.server_state, _coordinator_fault(run, round_, {"server_state": sha256}))


def _check(run: Run, path: Path, fault: str | None) -> None:
    if fault is not None:
        raise BadInputError(
            f"{fault}", hint=f"ask the coordinator before you use anything of {run.root}", path=path
        )


def _place(run: Run, round_: Round, kind: Kind) -> dict[str, object]:
    return {"kind": kind.value, "run": run.id, "round": round_.number}


def _fault(path: Path, expected: Mapping[str, object], public: str, whose: str) -> str | None:
    """Return why a file is not a signature of the ``expected`` facts, or None."""
    try:
        found = Signature.read(path)
    except BadInputError as error:
        return f"has a signature that cannot be read: {error.about(path)}"
    if found is None:
        return f"is not signed: {path.name} is missing"
    if found.algorithm != ALGORITHM:
        return f"is signed by {brief(found.algorithm)}, expected {ALGORITHM}"
    for name, value in expected.items():
        claimed = getattr(found.signed, name)
        if claimed != value:
            return f"is signed for {name} {brief(claimed)}, not {brief(value)}"
    if not verifies(public, found.signed.message(), found.signature):
        return f"is not signed by the key of {whose}"
    return None
