"""Whether a file that lies where a global model belongs is that model."""

from fedcli.errors import BadInputError
from fedcli.formats.manifest import check_described
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
                f"{round_.global_model}: belongs to {what} {value}, expected {expected}",
                hint="bring the one of this round of this run",
            )
    check_global(run, round_, sha256)
    check_described(round_, sha256)
