"""What a directory still waits for: the coordinator's for clients, a client's copy for work."""

from collections.abc import Sequence
from contextlib import suppress

from fedcli.errors import UsageError
from fedcli.masking.progress import masked_progress
from fedcli.plan.rule import resolve
from fedcli.remotes.to_clients import newest_held
from fedcli.run import Run
from fedcli.run.next_command import aggregate_command, close_command, train_command, unmask_command
from fedcli.run.participation import Invitation, participation
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients


def max_staleness(run: Run) -> int | None:
    """Return by how many rounds an update may be late and count; None if none may."""
    with suppress(UsageError):  # a rule of the user's own, which does not run here
        found = resolve(run.info.plan.aggregate).options.get("max_staleness")
        return None if found is None else int(found)
    return None


def missing_clients(run: Run, clients: Sequence[str]) -> tuple[str, ...]:
    """Return whose updates the open round lacks, of ``clients`` or of all that it wants.

    Once a masked round is closed, these are the members whose answers it lacks; none as soon as
    there are enough.
    """
    round_ = run.open_round()
    masked = masked_progress(run, round_)
    if masked is not None and masked.survivors is not None:
        missing = () if masked.is_ready else masked.waiting
    else:
        plan = run.info.plan.aggregate
        invitation = Invitation(run, round_, plan, max_staleness=max_staleness(run))
        missing = tuple(absence.client for absence in participation(invitation).missing)
    return tuple(client for client in missing if not clients or client in clients)


def work_of(run: Run, clients: Sequence[str]) -> str | None:
    """Return the command that these clients of a copy have to type, or anybody; None for none."""
    held = newest_held(run)
    if held is None:
        return None
    round_ = run.round(held + 1)
    if run.info.plan.secagg is not None and round_.survivors.exists():
        left = [client for client in clients if not round_.answer(client).exists()]
        return unmask_command(run, left[0]) if left else None
    drawn = sampled_clients(run.info, round_.number)
    wanted = [client for client in clients if client in drawn or not run.info.clients]
    if clients and not wanted:
        return None
    return None if _has_delivered(round_, wanted) else train_command(run, wanted)


def _has_delivered(round_: Round, clients: Sequence[str]) -> bool:
    delivered = round_.delivered()
    return all(client in delivered for client in clients) if clients else bool(delivered)


def command_of_coordinator(run: Run) -> str:
    """Return what the coordinator types when everybody is there."""
    masked = masked_progress(run, run.open_round())
    if masked is not None and masked.survivors is None:
        return close_command(run)
    return aggregate_command(run)
