"""Fetch what is needed of a run elsewhere: from folders, stores and single files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import NotReadyError, UsageError
from fedcli.progress import Progress, Silence
from fedcli.remotes.awaiting import command_of_coordinator, missing_clients, work_of
from fedcli.remotes.copying import (
    begin_copy,
    check_holds_run,
    check_same_run,
    read_copy,
    read_run_there,
)
from fedcli.remotes.fetching import Fetcher
from fedcli.remotes.from_clients import fetch_from_clients
from fedcli.remotes.listings import Listings
from fedcli.remotes.opening import files_of_pattern, open_remote
from fedcli.remotes.receipts import receipts
from fedcli.remotes.remote import Remote
from fedcli.remotes.to_clients import fetch_for_client, newest_held
from fedcli.remotes.transfer import Transfer
from fedcli.run import Run
from fedcli.run.next_command import pull_command
from fedcli.steps.push import chosen_clients, remote_of
from fedcli.storage.atomic import temporary_directory

_POLL_SECONDS = 1.0
_MOST_NAMED = 20


@dataclass(frozen=True)
class PullResult:
    """The result of ``pull``.

    ``placed`` are the files that are new here, by their paths in the run, in order, ``bytes`` what
    was fetched for them. ``copy`` is whether this is a client's copy. ``round`` is the open round,
    ``missing`` whose updates, or whose answers, it lacks; empty in a client's copy. ``next`` is
    what to type.
    """

    run: Path
    id: str
    remotes: tuple[str, ...]
    copy: bool
    placed: tuple[str, ...]
    bytes: int
    already_done: bool
    round: int
    missing: tuple[str, ...]
    next: str


def pull(
    root: Path,
    remotes: Sequence[str] = (),
    *,
    clients: Sequence[str] = (),
    wait: float = 0,
    whole: bool = False,
    progress: Progress | None = None,
) -> PullResult:
    """Fetch files from remotes into the run at ``root``, by default from that of the run.

    Where there is no run yet, a client's copy begins, of ``clients`` if they are given. A copy gets
    the newest model, or the deltas to it, and nothing of other clients but the sealed shares of
    masked rounds; the coordinator's directory gets updates and answers, with ``clients`` only
    theirs. Nothing is placed before it is checked, and nothing that is here is replaced. ``wait``
    is how many seconds to wait: a copy for something to do, the coordinator for everybody.

    Raises ``UsageError``, ``NotReadyError`` if a remote holds no run, or what ``wait`` was for has
    not come in time, ``BadInputError`` for files that are not what their place says,
    ``ConflictError`` if another file is here, ``MissingDependencyError`` and ``StorageError``.
    """
    sweep = _Sweep(
        root, tuple(remotes), tuple(clients), whole, Transfer("fetching", progress or Silence())
    )
    deadline = time.monotonic() + wait
    while (run := sweep.try_once(time.monotonic() >= deadline)) is None:
        sweep.transfer.wait(deadline)
        time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    return _result(run, sweep, waited=wait > 0)


@dataclass(frozen=True)
class _Sweep:
    """Fetches from all remotes what is there now."""

    root: Path
    remotes: tuple[str, ...]
    clients: tuple[str, ...]
    whole: bool
    transfer: Transfer

    def try_once(self, is_last: bool) -> Run | None:
        """Fetch, and return the run; None if there is something to wait for, unless ``is_last``."""
        try:
            run = self._fetch()
        except NotReadyError:
            if is_last:
                raise
            return None
        return run if is_last or not self._is_waiting(run) else None

    def _is_waiting(self, run: Run) -> bool:
        mark = read_copy(run)
        if mark is not None:
            return work_of(run, self.clients or mark.clients) is None
        missing = missing_clients(run, self.clients)
        if missing:
            self.transfer.say_once(f"waiting for {_named(missing)}")
        return bool(missing)

    def _fetch(self) -> Run:
        run = Run.open(self.root) if (self.root / "run.json").exists() else None
        for name in self.names(run):
            with open_remote(name, self.root) as remote:
                run = self._fetch_from(remote, run)
        assert run is not None
        return run

    def names(self, run: Run | None) -> tuple[str, ...]:
        """Return the names of the remotes.

        Raises ``UsageError`` if there are none, ``NotReadyError`` for a pattern without a file.
        """
        if self.remotes:
            return tuple(each for name in self.remotes for each in files_of_pattern(name))
        if run is None:
            raise UsageError("REMOTE: say where the run is: a folder, a URL or a .zip file")
        return (remote_of(run, None),)

    def _fetch_from(self, remote: Remote, run: Run | None) -> Run:
        listings = Listings(remote)
        check_holds_run(remote, listings, run)
        with temporary_directory(self.root, "pull") as stage:
            if run is None:
                run = begin_copy(self.root, read_run_there(remote, listings, stage), self.clients)
                self.transfer.add("run.json")
            with receipts(run, remote.name) as noted:
                check_same_run(run, remote, listings, noted, stage)
                fetcher = Fetcher(run, stage, remote, listings, noted, self.transfer)
                if read_copy(run) is not None:
                    fetch_for_client(run, fetcher, whole=self.whole)
                else:
                    fetch_from_clients(run, fetcher, chosen_clients(run, self.clients))
        return run


def _named(clients: Sequence[str]) -> str:
    more = len(clients) - _MOST_NAMED
    return ", ".join(clients[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _too_late(number: int, missing: Sequence[str]) -> NotReadyError:
    return NotReadyError(
        f"round {number} still misses {_named(missing)}; what has come is in its place",
        hint="wait longer, or do without: fedcli aggregate --min-clients N",
    )


def _result(run: Run, sweep: _Sweep, *, waited: bool) -> PullResult:
    mark, clients = read_copy(run), sweep.clients
    if mark is not None:
        missing: tuple[str, ...] = ()
        work = work_of(run, clients or mark.clients)
        number = (newest_held(run) or 0) + 1
        if work is None and waited:
            raise NotReadyError(
                f"round {number}: nothing new has come in time",
                hint="wait longer, or ask the coordinator",
            )
    else:
        missing, number = missing_clients(run, clients), run.open_round().number
        work = None if missing else command_of_coordinator(run)
        if missing and waited:
            raise _too_late(number, missing)
    moved = tuple(sweep.transfer.files)
    return PullResult(
        run=run.root,
        id=run.id,
        remotes=sweep.names(run),
        copy=mark is not None,
        placed=moved,
        bytes=sweep.transfer.bytes,
        already_done=not moved,
        round=number,
        missing=missing,
        next=work or pull_command(run),
    )
