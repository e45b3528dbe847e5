"""Checks that the file at the path of a global model is that model."""

from fedcli.errors import BadInputError
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Metadata
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import check_global


def check_global_model(run: Run, round_: Round, found: Metadata, sha256: str) -> None:
    """Check a global model's metadata, and its signature or, without one, the manifest's digest.

    ``sha256`` is the digest of the bytes in use. What is signed needs no manifest. Raises
    ``BadInputError`` for the model of another run or round, and what ``check_global`` and
    ``check_described`` do.
    """
    for what, expected, value in (
        ("run", run.id, found.run),
        ("round", round_.number, found.round),
    ):
        if value != expected:
            raise BadInputError(
                f"belongs to {what} {value}, expected {expected}",
                hint="copy the one of this round and run here",
                path=round_.global_model,
            )
    if run.info.coordinator is None:
        check_described(round_, sha256)
    else:
        check_global(run, round_, sha256)


def check_described(round_: Round, sha256: str) -> None:
    """Raise ``BadInputError`` if the manifest names another SHA-256 of the global model.

    An invalid manifest raises it too; a missing one is accepted.
    """
    again = f"fedcli aggregate --round {round_.number}"
    try:
        manifest = Manifest.read(round_.manifest)
    except BadInputError as error:
        hint = f"restore a good copy, or aggregate again: {again} --force"
        raise error.amended(hint=hint) from None
    if manifest is not None and manifest.global_model != sha256:
        raise BadInputError(
            f"was damaged or changed: SHA-256 {sha256}, and"
            f" {round_.manifest} names {manifest.global_model}",
            hint="restore a good copy of both, or aggregate again with the options of that round: "
            f"{again} --strategy {manifest.strategy} --force",
            path=round_.global_model,
        )
