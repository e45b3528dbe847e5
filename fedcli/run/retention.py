"""Retention of old rounds: which files may be removed, and which a later step still reads.

Updates, partial means, states and training checkpoints of old rounds may be removed, except states
that a round starts from (a client's is from the last round it trained), late updates that no
manifest has reported yet, and the last update of a client that keeps its state elsewhere.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fedcli.algorithms import ALGORITHMS
from fedcli.errors import BadInputError, NotReadyError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import Kind
from fedcli.run.client_state import LOCAL, RESIDUAL, StateStore, slots_kept
from fedcli.run.directory import Run
from fedcli.run.info import is_client_id
from fedcli.run.participation import unreported
from fedcli.run.round import Round
from fedcli.run.used_updates import is_untold, used_updates
from fedcli.storage.atomic import storage_errors
from fedcli.strategies.weightings import WEIGHTINGS

# Slots of client states, each with the server optimizer that keeps its other half.
_SLOTS: Mapping[str, str | None] = {
    LOCAL: None,
    RESIDUAL: None,
    **{row.keeps: row.strategy if row.needs_strategy else None
       for row in ALGORITHMS.values() if row.keeps is not None},
}  # fmt: skip


class FileKind(StrEnum):
    """Kinds of files that become old, in the order of removal within a round.

    A state is removed before its update, which records what the client kept; so are other files
    that belong to an update, since they are found through it.
    """

    TRAINING_CHECKPOINT = "interrupted trainings"
    SERVER_STATE = "server states"
    CLIENT_STATE = "client states"
    TELEMETRY = "telemetry"
    SIGNATURE = "signatures"
    SHARES = "shares"
    SUM = "sums of masked updates"
    PARTIAL = "partial means"
    UPDATE = "updates"


class Reason(StrEnum):
    """Why a file of an old round is kept."""

    STARTS = "a round starts from it"
    MAY_COUNT = "no manifest has reported it yet"
    ELSEWHERE = "records what its client kept last"
    UNREADABLE = "what its client starts from cannot be read"


@dataclass(frozen=True)
class OldFile:
    """A file of an old round; ``client`` is None for the server's."""

    path: Path
    round: int
    sort: FileKind
    client: str | None


@dataclass(frozen=True)
class OldFiles:
    """Old files; ``removable`` is in an order that may be interrupted at any point."""

    removable: tuple[OldFile, ...]
    kept: Mapping[OldFile, Reason]


def old_files(run: Run, keep_last: int) -> OldFiles:
    """Find the files of rounds before the last ``keep_last`` complete ones.

    Files that those rounds started from are not old. Raises ``StorageError``.
    """
    complete = [round_.number for round_ in run.complete_rounds() if round_.number > 0]
    if len(complete) <= keep_last:
        return OldFiles((), {})
    span = Window(run, complete[-keep_last], complete[-1] + 1)
    found = [file for number in span.old for file in _files_of(run.round(number))]
    kept = {file: reason for file in found if (reason := span.reason_to_keep(file))}
    kept |= _kept_for_clients(span, [file for file in found if file not in kept])
    removable = [file for file in found if file not in kept]
    removable += _belonging(span, [file for file in removable if file.sort == FileKind.UPDATE])
    order = list(FileKind)
    removable.sort(key=lambda file: (file.round, order.index(file.sort)))
    return OldFiles(tuple(removable), kept)


class Window:
    """The rounds of a run: old ones, those kept (from ``first`` on), and the open one."""

    def __init__(self, run: Run, first: int, open_round: int) -> None:
        self.run = run
        self.first = first
        self.open = open_round
        self.old = [r.number for r in run.rounds() if 0 < r.number < first]
        self._unreported = frozenset(unreported(run, open_round, self._most_stale()))
        complete = run.complete_rounds()
        self._untold = max((one.number for one in complete if is_untold(one)), default=0)

    def _most_stale(self) -> int:
        """Return by how many rounds an update may be late, from the plan and the last manifest."""
        manifest = Manifest.try_read(self.run.round(self.open - 1).manifest)
        used = None if manifest is None else manifest.options.get("max_staleness")
        default: int = WEIGHTINGS["staleness"].options["max_staleness"]
        planned = self.run.info.plan.aggregate.max_staleness or 0
        return max(default, planned, used if isinstance(used, int) else 0)

    def reason_to_keep(self, file: OldFile) -> Reason | None:
        """Return why aggregation still needs a file, or None."""
        if file.sort == FileKind.SERVER_STATE and file.round == self.first - 1:
            return Reason.STARTS
        if file.sort == FileKind.UPDATE and (
            (file.round, file.client) in self._unreported or file.round <= self._untold
        ):
            return Reason.MAY_COUNT
        return None

    def has_newer_update(self, client: str) -> bool:
        """Return whether a client has delivered in a round that is not old."""
        newer = (r for r in self.run.rounds() if self.first <= r.number <= self.open)
        return any(round_.update(client).exists() for round_ in newer)


def _files_of(round_: Round) -> Iterator[OldFile]:
    if round_.path.is_symlink():
        return
    if _is_file(round_.server_state):
        yield OldFile(round_.server_state, round_.number, FileKind.SERVER_STATE, None)
    if _is_file(round_.masked_sum):
        yield OldFile(round_.masked_sum, round_.number, FileKind.SUM, None)
    for path in _checkpoints(round_.partial("any").parent):
        yield OldFile(path, round_.number, FileKind.PARTIAL, None)
    for sort, folder in (
        (FileKind.TRAINING_CHECKPOINT, round_.training_checkpoint("any").parent),
        (FileKind.CLIENT_STATE, round_.client_state("any").parent),
        (FileKind.UPDATE, round_.updates),
    ):
        for path in _checkpoints(folder):
            yield OldFile(path, round_.number, sort, path.stem)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the clients' files in a folder, without links, which may lead out of the run."""
    if folder.is_symlink():
        return []
    with storage_errors("read", folder):
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
    paths = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    return sorted(p for p in paths if p.suffix == ".safetensors" and is_client_id(p.stem))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _kept_for_clients(span: Window, files: list[OldFile]) -> dict[OldFile, Reason]:
    """Return the files that clients still need, with the reason."""
    by_client = defaultdict[str, list[OldFile]](list)
    for file in files:
        if file.client is not None and file.sort in (FileKind.CLIENT_STATE, FileKind.UPDATE):
            by_client[file.client].append(file)
    kept: dict[OldFile, Reason] = {}
    for client, mine in by_client.items():
        try:
            needed = _needed(span, client, mine)
        except (BadInputError, NotReadyError):
            needed = {file.path: Reason.UNREADABLE for file in mine}
        kept |= {file: needed[file.path] for file in mine if file.path in needed}
    return kept


def _needed(span: Window, client: str, mine: list[OldFile]) -> dict[Path, Reason]:
    """Return the paths that a client needs in the kept and in future rounds."""
    store, needed = StateStore(span.run), dict[Path, Reason]()
    states = []
    for slot in _slots_in(store, mine):
        for start in (span.first, span.open):
            number = store.round_before(start, client, slot, server_optimizer=_SLOTS[slot])
            if number is None or number >= span.first:
                continue
            if store.path(number, client).exists():
                needed[store.path(number, client)] = Reason.STARTS
                states.append(number)
            if start == span.open and slot not in store.slots(number, client):
                needed[span.run.round(number).update(client)] = Reason.ELSEWHERE
    newest = max((file.round for file in mine if file.sort == FileKind.UPDATE), default=0)
    if states and newest > max(states) and not span.has_newer_update(client):
        # without it, an older state would pass for the client's newest
        needed[span.run.round(newest).update(client)] = Reason.ELSEWHERE
    return needed


def _slots_in(store: StateStore, mine: list[OldFile]) -> Set[str]:
    """Return the slots that a client's files mention, ignoring broken updates."""
    slots = set()
    for file in mine:
        if file.sort == FileKind.CLIENT_STATE:
            slots |= store.slots(file.round, file.client or "")
            continue
        try:
            with Checkpoint(file.path, Kind.UPDATE) as update:
                slots |= slots_kept(update.metadata.training)
        except (BadInputError, NotReadyError):
            continue
    return slots & _SLOTS.keys()


def _belonging(span: Window, updates: list[OldFile]) -> Iterator[OldFile]:
    """Yield shares, and the telemetry and signatures of updates that no model was made from.

    Those of used updates stay: the report reads them, and they prove who delivered what.
    """
    for file in updates:
        if _is_file(path := span.run.round(file.round).shares(file.client or "")):
            yield OldFile(path, file.round, FileKind.SHARES, file.client)
    oldest = min((file.round for file in updates), default=span.open)
    used = used_updates(span.run, oldest, span.open)
    for file in updates:
        round_, client = span.run.round(file.round), file.client or ""
        if (client, file.round) not in used:
            for sort, path in (
                (FileKind.TELEMETRY, round_.telemetry(client)),
                (FileKind.SIGNATURE, round_.signature(client)),
            ):
                if _is_file(path):
                    yield OldFile(path, file.round, sort, client)
