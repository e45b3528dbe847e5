"""What travels from clients: updates, and answers to signed lists."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from fedcli.errors import (
    BadInputError,
    ConflictError,
    ExitStatus,
    FedcliError,
    NotReadyError,
    UpdateError,
)
from fedcli.formats.client_ids import is_client_id
from fedcli.remotes.awaiting import max_staleness
from fedcli.remotes.fetching import Fetcher
from fedcli.remotes.listings import Listings
from fedcli.remotes.parcels import Parcel, answer_parcel, base_of, name_in, update_parcel
from fedcli.remotes.receipts import Receipts
from fedcli.run import Run
from fedcli.run.info import client_order
from fedcli.run.round import Round

_LATE_ROUNDS = 3  # rounds before the open one whose late updates are reported, beside those allowed
_MOST_NAMED = 20
_GRAVEST = (ExitStatus.BAD_INPUT, ExitStatus.CONFLICT, ExitStatus.NOT_READY)
_UPDATE, _ANSWER = ".safetensors", ".json"


def own_parcels(run: Run, clients: Collection[str], *, newest_only: bool) -> list[list[Parcel]]:
    """Return the updates and answers in a client's copy, by rounds: of all, or of the newest."""
    found: list[list[Parcel]] = []
    for round_ in run.rounds():
        base = base_of(run, round_.number)
        mine = [update_parcel(run, round_, c, base) for c in _among(round_.delivered(), clients)]
        mine += [answer_parcel(run, round_, c) for c in _among(_answered(round_), clients)]
        found += [mine] if mine else []
    return found[-1:] if newest_only else found


def was_cleared(parcel: Parcel, there: Listings, receipts: Receipts) -> bool:
    """Return whether a file was sent before, and was removed there after its round was complete."""
    folder = "/".join(parcel.marker.split("/")[:2])
    complete = there.entry(f"{folder}/global.safetensors") is not None
    gone = there.entry(parcel.marker) is None
    return complete and gone and receipts.has(parcel.marker)


def _among(found: Sequence[str], clients: Collection[str]) -> list[str]:
    return [client for client in found if not clients or client in clients]


def _answered(round_: Round) -> list[str]:
    folder = round_.answer("0").parent
    names = (path.name for path in folder.glob(f"*{_ANSWER}"))
    return client_order(filter(is_client_id, (name.removesuffix(_ANSWER) for name in names)))


def fetch_from_clients(run: Run, fetcher: Fetcher, clients: Collection[str]) -> None:
    """Fetch the updates and answers of the open round, and updates that are late.

    All are tried; afterwards one error names those that cannot be used. Raises ``ConflictError`` if
    the remote is ahead of this run, and what ``fetch`` does.
    """
    open_round = run.open_round()
    _check_not_ahead(run, fetcher.listings, open_round)
    errors: list[FedcliError] = []
    for parcel in fetcher.ahead(_arriving(run, open_round, fetcher.listings, clients)):
        try:
            fetcher.fetch(parcel)
        except (BadInputError, ConflictError, NotReadyError) as error:
            errors.append(error)
    if errors:
        raise _together(errors)


def _arriving(
    run: Run, open_round: Round, there: Listings, clients: Collection[str]
) -> Iterator[Parcel]:
    oldest = max(1, open_round.number - _LATE_ROUNDS - (max_staleness(run) or 0))
    for number in there.rounds():
        if oldest <= number <= open_round.number:
            round_ = run.round(number)
            base = base_of(run, round_.number)
            for client in _senders(run, there, round_.updates, _UPDATE, clients):
                yield update_parcel(run, round_, client, base)
    if run.info.plan.secagg is not None and open_round.survivors.exists():
        answers = open_round.answer("0").parent
        for member in _senders(run, there, answers, _ANSWER, clients):
            yield answer_parcel(run, open_round, member)


def _senders(
    run: Run, there: Listings, folder: Path, suffix: str, clients: Collection[str]
) -> list[str]:
    """Return the clients of the run that have a file in a folder; anybody may put others there."""
    found = there.files(name_in(run, folder))
    names = (name.removesuffix(suffix) for name in found if name.endswith(suffix))
    known = clients or run.info.clients
    valid = filter(is_client_id, names)
    return client_order(name for name in valid if not known or name in known)


def _check_not_ahead(run: Run, there: Listings, open_round: Round) -> None:
    newest = max(there.rounds(), default=0)
    if there.entry(name_in(run, run.round(newest).global_model)) is None:
        return
    if newest >= open_round.number:
        raise ConflictError(
            f"round {newest} is complete at the remote, and round {open_round.number} is open here:"
            " this is not the directory in which the coordinator aggregates",
            hint="fedcli pull REMOTE --run OTHER makes a client's copy in another directory",
            path=run.root,
        )


def _together(errors: Sequence[FedcliError]) -> FedcliError:
    """Return one error that names all; one that waiting does not mend decides its kind."""
    updates = [error for error in errors if isinstance(error, UpdateError)]
    if updates and len(updates) == len(errors):
        return UpdateError.together(updates)
    worst = min(errors, key=lambda error: _GRAVEST.index(error.status))
    if len(errors) == 1:
        return worst
    kind = {ExitStatus.BAD_INPUT: BadInputError, ExitStatus.CONFLICT: ConflictError}
    named = [error.message for error in errors[:_MOST_NAMED]]
    more = [f"and {len(errors) - _MOST_NAMED} more"] if len(errors) > _MOST_NAMED else []
    return kind.get(worst.status, NotReadyError)("; ".join([*named, *more]), hint=worst.hint)
