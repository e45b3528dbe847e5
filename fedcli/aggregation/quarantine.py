"""Continue without bad updates, if the quorum allows."""

from dataclasses import replace

from fedcli.aggregation.existing_round import Inputs, digest_if_readable
from fedcli.errors import BadInputError, FedcliError, StorageError, UpdateError
from fedcli.formats.manifest import Absence
from fedcli.progress import Progress
from fedcli.run.participation import LISTED, Quorum
from fedcli.text import printable

_SAID = 20
_MOST_REASON = 300  # characters: an attacker may cause thousands of rejections


def set_aside(
    inputs: Inputs, quorum: Quorum, error: FedcliError, progress: Progress
) -> Inputs | None:
    """Return the inputs without the updates that an error blames; their files stay unchanged.

    Return None if the error also blames something else, or if too few updates remain.
    """
    run, accepted = inputs.run, inputs.taking_part.accepted
    by_file = {run.round(number).update(client): (number, client) for number, client in accepted}
    bad: list[Absence] = []
    for one in (error, *(error.others if isinstance(error, UpdateError) else ())):
        if one.path not in by_file or not _is_of_update(one):
            return None
        number, client = by_file[one.path]
        sha256 = digest_if_readable(run, number, client) if len(bad) < LISTED else None
        bad.append(Absence(client, printable(one.reason, _MOST_REASON), number, sha256))
    rest = inputs.taking_part.without(bad)
    if not quorum.may_continue_with(rest):
        return None
    for absence in bad[:_SAID]:
        progress.say(f"left out: client {absence.client}: {absence.reason}")
    if len(bad) > _SAID:
        progress.say(f"left out: {len(bad) - _SAID} more clients; see aggregate.json")
    return replace(inputs, taking_part=rest)


def _is_of_update(error: FedcliError) -> bool:
    """Return whether an error is the fault of the file it names.

    A file may also change while it is read, or may forbid reading; a failing disk is not its fault.
    """
    may_not = isinstance(error, StorageError) and isinstance(error.__cause__, PermissionError)
    return may_not or isinstance(error, BadInputError)
