"""Files that travel together: companions first, and last the one that says that all are there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fedcli.formats.checkpoint import digest
from fedcli.masking.rounds import MOST_UNREAD
from fedcli.remotes.checks import (
    check_answer,
    check_list,
    check_manifest,
    check_model,
    check_update,
)
from fedcli.run import Run
from fedcli.run.round import Round

_MARGIN = 16_000_000  # bytes


@dataclass(frozen=True)
class Parcel:
    """Files of a run, by their paths in it.

    The last of ``files`` is the marker, which arrives after the others: where it is, they are.
    ``volatile`` ones go before it, if they exist; they are never compared. ``witnesses`` are
    fetched for the check alone, if they exist. ``most`` is how many bytes a checkpoint may have;
    None for any number. ``check`` takes the run that holds the files, and raises what the functions
    of ``checks`` do.
    """

    files: tuple[str, ...]
    check: Callable[[Run], None]
    volatile: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    most: int | None = None

    @property
    def marker(self) -> str:
        """The file that arrives last."""
        return self.files[-1]

    def largest(self, path: str) -> int | None:
        """Return how many bytes one of the files may have."""
        return self.most if path.endswith(".safetensors") else MOST_UNREAD


def name_in(run: Run, path: Path) -> str:
    """Return the name that a file or folder of a run has at a remote."""
    return path.relative_to(run.root).as_posix()


def base_of(run: Run, number: int) -> str | None:
    """Return the SHA-256 of the model before a round's, if it is here."""
    before = run.round(number - 1).global_model
    return digest(before) if number > 0 and before.exists() else None


def _names(run: Run, *paths: Path) -> tuple[str, ...]:
    return tuple(name_in(run, path) for path in paths)


def run_parcel() -> Parcel:
    """Return the description of the run, which ``Run.open`` has checked."""
    return Parcel(("run.json",), lambda run: None)


def update_parcel(run: Run, round_: Round, client: str, base: str | None) -> Parcel:
    """Return a client's update; ``base`` is the SHA-256 of its base model, if that is here."""
    signature = (round_.signature(client),) if run.info.members else ()
    shares = (round_.shares(client),) if run.info.plan.secagg is not None else ()
    most = run.largest_update(round_.number)
    return Parcel(
        _names(run, *signature, *shares, round_.update(client)),
        partial(check_update, number=round_.number, client=client, base=base, most=most),
        volatile=_names(run, round_.telemetry(client)),
        most=most,
    )


def model_parcel(run: Run, round_: Round, *, delta: bool, state: bool, base: str | None) -> Parcel:
    """Return a round's global model, or its ``delta``, with the server state if clients read it.

    ``base`` is the SHA-256 of the model before it, if that is here.
    """
    beside = (round_.manifest, round_.server_state) if state else ()
    signature = (round_.global_signature,) if run.info.coordinator is not None else ()
    marker = round_.delta if delta else round_.global_model
    # without a signature, only the manifest says which SHA-256 the model has
    tells = run.info.coordinator is None and round_.number > 0 and not state
    return Parcel(
        _names(run, *beside, *signature, marker),
        partial(check_model, number=round_.number, delta=delta, state=state, base=base),
        witnesses=_names(run, round_.manifest) if tells else (),
        most=_largest_model(run),
    )


def _largest_model(run: Run) -> int | None:
    """Return how many bytes a model, or what belongs to one, may have; None without any here."""
    latest = run.complete_rounds()
    return 4 * latest[-1].global_model.stat().st_size + _MARGIN if latest else None


def round_parcels(run: Run, round_: Round, *, state: bool) -> Iterator[Parcel]:
    """Yield what others may want of a round: the delta with what tells its SHA-256, then the model.

    The manifest is among it, if there is one.
    """
    manifest = _names(run, round_.manifest) if round_.manifest.exists() else ()
    for delta in (True, False) if round_.delta.exists() else (False,):
        parcel = model_parcel(run, round_, delta=delta, state=state, base=None)
        yield replace(parcel, files=tuple(dict.fromkeys((*manifest, *parcel.files))))


def manifest_parcel(run: Run, round_: Round) -> Parcel:
    """Return a manifest alone, from which a client sees whether its state still counts."""
    return Parcel(_names(run, round_.manifest), partial(check_manifest, number=round_.number))


def list_parcel(run: Run, round_: Round, survivors: tuple[str, ...]) -> Parcel:
    """Return the signed list of a masked round, after the sealed shares of those in it."""
    shares = (round_.shares(client) for client in survivors)
    return Parcel(_names(run, *shares, round_.survivors), partial(check_list, number=round_.number))


def answer_parcel(run: Run, round_: Round, member: str) -> Parcel:
    """Return a member's answer to the list of survivors."""
    return Parcel(
        _names(run, round_.answer(member)),
        partial(check_answer, number=round_.number, member=member),
        witnesses=_names(run, round_.survivors),
    )
