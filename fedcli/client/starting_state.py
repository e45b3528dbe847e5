"""What a client has kept of earlier rounds when its training starts."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.client.session import Session
from fedcli.errors import UsageError
from fedcli.formats.dtypes import Array
from fedcli.run.client_state import LOCAL, NOTHING, RESIDUAL


@dataclass(frozen=True)
class StartingState:
    """A client's state before training: arrays of its algorithm, own layers, residual, by name.

    ``sha256s`` are those of their files.
    """

    kept: Mapping[str, Array]
    local: Mapping[str, Array]
    residual: Mapping[str, Array]
    sha256s: tuple[str, ...]


def starting_state(session: Session, client: str) -> StartingState:
    """Read a client's state. Raises what ``StateStore.before`` raises."""
    number, row = session.round.number, session.plan.local
    state = layers = left = None
    if row.keeps is not None:
        other_half = row.strategy if row.needs_strategy else None
        state = session.states.before(number, client, row.keeps, server_optimizer=other_half)
    if state is not None and any(
        state.training.get(key) != getattr(row, key) for key in row.reset_by
    ):
        state = None
    if session.tensors.local:
        layers = session.states.before(number, client, LOCAL)
    if session.plan.feedback:
        left = session.states.before(number, client, RESIDUAL)
    return StartingState(
        NOTHING if state is None or row.keeps is None else state.slot(row.keeps),
        NOTHING if layers is None else layers.slot(LOCAL),
        NOTHING if left is None else left.slot(RESIDUAL),
        tuple(dict.fromkeys(one.sha256 for one in (state, layers, left) if one is not None)),
    )


def check_state_is_own(session: Session, data: str | None) -> None:
    """Raise ``UsageError`` if a client would keep files in the run that others must not see.

    If it signs, others must not change them; if it trains in private on ``data`` of its own, they
    tell what the noise hides.
    """
    keeps = session.keeps_state or session.execution.checkpoint_every is not None
    if (keeps or session.plan.dp is not None) and not session.trusts_kept_files:
        raise UsageError(
            "--state: updates are signed, but others can change the files that a client keeps in"
            " the run",
            hint="name a folder of the client's own with --state DIR",
        )
    if session.plan.dp is not None and data is not None and session.execution.state is None:
        raise UsageError(
            "--state: what private training keeps tells the number of examples, and others read"
            " the run",
            hint="name a folder of the client's own with --state DIR",
        )
