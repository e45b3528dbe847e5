"""Whether a file that lies where a global model belongs is that model."""

from fedcli.errors import BadInputError
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Metadata
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.signatures import check_global


def check_global_model(run: Run, round_: Round, found: Metadata, sha256: str) -> None:
    """Check what a global model says of itself, who signed it, and what its manifest names.

    ``sha256`` is that of the bytes that are used. Raises ``BadInputError`` for the model of
    another run or round, and what ``check_global`` and ``check_described`` do.
    """
    for what, expected, value in (
        ("run", run.id, found.run),
        ("round", round_.number, found.round),
    ):
        if value != expected:
            raise BadInputError(
                f"belongs to {what} {value}, expected {expected}",
                hint="bring the one of this round of this run",
                path=round_.global_model,
            )
    check_global(run, round_, sha256)
    check_described(round_, sha256)


def check_described(round_: Round, sha256: str) -> None:
    """Raise ``BadInputError`` where a global model of this SHA-256 is not what its manifest names.

    So does a manifest that cannot be understood. A round without one says nothing of its model.
    """
    again = f"fedcli aggregate --round {round_.number}"
    try:
        manifest = Manifest.read(round_.manifest)
    except BadInputError as error:
        hint = f"bring a good copy, or make it again: {again} --force"
        raise error.amended(hint=hint) from None
    if manifest is not None and manifest.global_model != sha256:
        raise BadInputError(
            f"was damaged or changed: SHA-256 {sha256}, and"
            f" {round_.manifest} names {manifest.global_model}",
            hint="bring a good copy of both, or make them again, with the options of that round: "
            f"{again} --strategy {manifest.strategy} --force",
            path=round_.global_model,
        )
