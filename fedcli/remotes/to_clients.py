"""What travels to clients: the run, the newest model or the deltas to it, and signed lists."""

from collections.abc import Callable, Iterator, Sequence

from fedcli.errors import NotReadyError
from fedcli.formats.manifest import Manifest
from fedcli.masking.rounds import MOST_UNREAD, read_survivors
from fedcli.remotes.fetching import Fetcher
from fedcli.remotes.listings import Listings
from fedcli.remotes.parcels import (
    Parcel,
    base_of,
    list_parcel,
    manifest_parcel,
    model_parcel,
    name_in,
    round_parcels,
    run_parcel,
)
from fedcli.run import Run
from fedcli.run.exchange import clients_read_state
from fedcli.run.round import Round

Sizes = tuple[int | None, int | None]  # of a round's global model and of its delta; None without


def newest_held(run: Run) -> int | None:
    """Return the newest round whose model is here, or can be rebuilt from deltas that are."""
    complete = run.complete_rounds()
    number = complete[-1].number if complete else -1
    while run.round(number + 1).delta.exists():
        number += 1
    return None if number < 0 else number


def route(
    offered: Callable[[int], Sizes], held: int | None, newest: int, *, whole: bool
) -> list[tuple[int, bool]]:
    """Return the rounds to move so that a client gets from one model to the newest, and as what.

    True stands for the round's delta, False for its model. The cheaper way is taken, and with
    ``whole`` the model. ``held`` is the round of the client's model; without one, the deltas begin
    with that of round 0, whose model is drawn. Raises ``NotReadyError`` if there is no way.
    """
    numbers = range(0 if held is None else held + 1, newest + 1)
    deltas = [offered(number)[1] for number in numbers]
    model, _ = offered(newest)
    sizes = [size for size in deltas if size is not None]
    if not whole and len(sizes) == len(deltas) and (model is None or sum(sizes) <= model):
        return [(number, True) for number in numbers]
    if model is None:
        raise NotReadyError(
            f"the model of round {newest} can only be rebuilt from deltas, and this copy has"
            f" {'no model' if held is None else f'that of round {held}'}",
            hint="ask the coordinator for fedcli push FILE --whole",
        )
    return [(newest, False)]


def _reads_state(run: Run, round_: Round) -> bool:
    manifest = Manifest.try_read(round_.manifest)
    return clients_read_state(run, None if manifest is None else manifest.server_optimizer)


def _model(run: Run, number: int, *, delta: bool, state: bool) -> Parcel:
    base = base_of(run, number)
    return model_parcel(run, run.round(number), delta=delta, state=state, base=base)


# At the coordinator


def all_rounds(run: Run, there: Listings) -> Iterator[Parcel]:
    """Yield what a remote that is a folder should have: the run, all rounds, and an open list.

    Rounds before the newest that is there are complete there: their models came last.
    """
    yield run_parcel()
    known = [number for number in there.rounds() if _offered(run, there, number)[0] is not None]
    for round_ in run.complete_rounds():
        if round_.number >= max(known, default=0):
            state = round_.server_state.exists() and _reads_state(run, round_)
            yield from round_parcels(run, round_, state=state)
    yield from _open_list(run)


def needed_by(run: Run, clients: Sequence[str], *, whole: bool) -> Iterator[Parcel]:
    """Yield what these clients, or all, need to train: the run, and the newest model or deltas."""
    yield run_parcel()
    newest = run.latest_round().number
    held = [_held_by(run, client) for client in clients or run.info.clients]
    known = [number for number in held if number is not None]
    oldest = min(*known, newest - 1) if held and len(known) == len(held) else None
    steps = route(lambda number: _sizes_here(run, number), oldest, newest, whole=whole)
    if _reads_state(run, run.round(newest)):
        for number in range(1 if oldest is None else oldest + 1, newest):
            if run.round(number).manifest.exists():
                yield manifest_parcel(run, run.round(number))
    for number, delta in steps:
        round_ = run.round(number)
        state = number == newest and round_.server_state.exists() and _reads_state(run, round_)
        yield model_parcel(run, round_, delta=delta, state=state, base=None)
    yield from _open_list(run)


def _held_by(run: Run, client: str) -> int | None:
    """Return the round of the model that a client's last update was trained from."""
    for round_ in reversed(run.rounds()):
        if any(one(client).exists() for one in (round_.update, round_.signature, round_.telemetry)):
            return round_.number - 1
    return None


def _sizes_here(run: Run, number: int) -> Sizes:
    files = (run.round(number).global_model, run.round(number).delta)
    model, delta = (path.stat().st_size if path.exists() else None for path in files)
    return model, delta


def _open_list(run: Run) -> Iterator[Parcel]:
    round_ = run.open_round()
    if run.info.plan.secagg is not None and round_.survivors.exists():
        yield list_parcel(run, round_, tuple(read_survivors(run, round_).survivors))


# At a client


def fetch_for_client(run: Run, fetcher: Fetcher, *, whole: bool) -> None:
    """Fetch what a client needs. Raises what ``fetch`` and ``route`` do."""
    there = fetcher.listings
    newest = _newest_offered(run, there)
    if newest is None:
        return
    held = newest_held(run)
    for parcel in _models_to_fetch(run, there, held, newest, whole=whole):
        fetcher.fetch(parcel)
    _fetch_list(run, run.round(newest + 1), fetcher)


def _newest_offered(run: Run, there: Listings) -> int | None:
    found = (n for n in reversed(there.rounds()) if any(_offered(run, there, n)))
    return next(found, None)


def _offered(run: Run, there: Listings, number: int) -> Sizes:
    round_ = run.round(number)
    found = there.files(name_in(run, round_.path))
    model, delta = (found.get(path.name) for path in (round_.global_model, round_.delta))
    return None if model is None else model.size, None if delta is None else delta.size


def _models_to_fetch(
    run: Run, there: Listings, held: int | None, newest: int, *, whole: bool
) -> Iterator[Parcel]:
    if clients_read_state(run):
        for number in range(1 if held is None else held + 1, newest):
            yield manifest_parcel(run, run.round(number))
    wanted = route(lambda number: _offered(run, there, number), held, newest, whole=whole)
    if not wanted and run.round(newest).global_model.exists():
        wanted = [(newest, False)]  # to be compared
    for number, delta in wanted:
        round_ = run.round(number)
        has_state = round_.server_state.name in there.files(name_in(run, round_.path))
        yield _model(run, number, delta=delta, state=has_state and number == newest)


def _fetch_list(run: Run, round_: Round, fetcher: Fetcher) -> None:
    """Fetch a signed list and the shares that it names, which only the list tells."""
    if run.info.plan.secagg is None:
        return
    name = name_in(run, round_.survivors)
    if fetcher.stage(name, MOST_UNREAD):
        with fetcher.blaming_remote():
            listed = read_survivors(fetcher.staged, Round(fetcher.staged.root, round_.number))
        fetcher.fetch(list_parcel(run, round_, tuple(listed.survivors)))
