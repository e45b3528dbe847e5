"""Go on without updates that are bad, as far as the quorum allows."""

from dataclasses import replace

from fedcli.errors import UpdateError
from fedcli.manifest import Absence
from fedcli.participation import Quorum
from fedcli.progress import Progress
from fedcli.steps.aggregated import Inputs, digest_if_readable


def set_aside(inputs: Inputs, quorum: Quorum, error: UpdateError, progress: Progress) -> Inputs:
    """Return the inputs without the updates that an error blames; their files stay as they are.

    Raises the error where it blames no client, or where the others are too few.
    """
    run, accepted = inputs.run, inputs.taking_part.accepted
    by_file = {run.round(number).update(client): (number, client) for number, client in accepted}
    bad = []
    for one in (error, *error.others):
        if one.culprit not in by_file:
            raise error
        number, client = by_file[one.culprit]
        sha256 = digest_if_readable(run.round(number), client)
        reason = one.message.removeprefix(f"{one.culprit}: ")
        bad.append(Absence(client, reason, number, sha256))
    rest = inputs.taking_part.without(bad)
    if not quorum.goes_without(rest):
        raise error
    for absence in bad:
        progress.say(f"left out: client {absence.client}: {absence.reason}")
    return replace(inputs, taking_part=rest)
