"""Continue without bad updates, if the quorum allows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedcli.aggregation.admission import open_updates, refusals
from fedcli.aggregation.existing_round import Inputs, digest_if_readable
from fedcli.aggregation.nonfinite import nonfinite_reason
from fedcli.aggregation.updates import Update, source_error
from fedcli.errors import BadInputError, CheckpointError, FedcliError, StorageError, UpdateError
from fedcli.formats.dtypes import as_float, is_float
from fedcli.formats.manifest import Absence
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.progress import Progress
from fedcli.run.participation import LISTED
from fedcli.run.quorum import Quorum
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
    for one in error.each if isinstance(error, UpdateError) else (error,):
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


def all_bad(inputs: Inputs, errors: Sequence[FedcliError]) -> FedcliError:
    """Return the last error or, if all blame updates, one error for these and all other bad ones.

    A round that fails anyway is worth another pass over its updates, so that all of them can be
    mended at once.
    """
    bad = [error for error in errors if isinstance(error, UpdateError)]
    parts = [part for error in bad for part in error.each]
    if len(bad) < len(errors) or any(part.client is None for part in parts):
        return errors[-1]
    blamed = {part.path for part in parts}
    rest = [
        (number, client)
        for number, client in inputs.taking_part.accepted
        if inputs.run.round(number).update(client) not in blamed
    ]
    most = inputs.limits.get("max_examples")
    try:
        with open_updates(inputs.run, inputs.round, rest, max_examples=most) as opened:
            found = [fault for update in opened.updates if (fault := _content_error(update))]
    except FedcliError as error:
        found = list(error.each) if isinstance(error, UpdateError) else []
    return UpdateError.together([*parts, *found])


def bad_headers(inputs: Inputs) -> UpdateError | None:
    """Return one error for all updates that cannot take part, as far as headers tell, or None."""
    most = inputs.limits.get("max_examples")
    try:
        found = refusals(inputs.run, inputs.round, inputs.taking_part.accepted, most)
    except FedcliError:
        return None  # the next attempt to aggregate says so
    return UpdateError.together(found) if found else None


def _content_error(update: Update) -> UpdateError | None:
    """Return what is wrong with an update's values or its SHA-256, or None."""
    with update.reopened() as tensors:
        try:
            return _nonfinite(update, tensors) or source_error(update, tensors.read_through())
        except CheckpointError as error:
            return update.damaged(error)


def _nonfinite(update: Update, tensors: UpdateTensors) -> UpdateError | None:
    for name, info in tensors.layout.items():
        if not is_float(info.dtype):
            continue
        values = as_float(tensors.tensor(name))
        if count := values.size - np.count_nonzero(np.isfinite(values)):
            return update.error(nonfinite_reason(name, int(count), values.size))
    return None


def _is_of_update(error: FedcliError) -> bool:
    """Return whether an error is the fault of the file it names.

    A file may also change while it is read, or may forbid reading; a failing disk is not its fault.
    """
    may_not = isinstance(error, StorageError) and isinstance(error.__cause__, PermissionError)
    return may_not or isinstance(error, BadInputError)
