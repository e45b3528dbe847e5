"""Heartbeats: small files by which clients report running trainings to ``status``.

A heartbeat is written about every second, first after a fifth of one, and removed when the training
ends or fails. A killed process leaves it behind, which is harmless: its time shows its age, and the
client's next training replaces it. Nothing depends on it, so errors of writing are ignored.
"""

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal, Self

from fedcli.errors import FedcliError
from fedcli.formats.records import ClientId, Count, FileRecord
from fedcli.run.info import client_order, is_client_id
from fedcli.run.round import Round
from fedcli.storage.temporaries import is_running

State = Literal["training", "silent", "stopped"]

FIRST = 0.2  # seconds before a training tells: the folder alone takes as long as a small one
_INTERVAL = 1.0  # seconds between two writes
_SHARE = 0.02  # largest share of the time spent writing, for slow disks
_SILENT = 60.0  # seconds without a heartbeat after which a training counts as silent


@dataclass(frozen=True)
class Heartbeat(FileRecord):
    """``training/ID.json``: the current epoch of a training, from 1, and where it runs.

    ``updated`` is in ISO 8601, UTC; ``peak_memory_bytes`` is the peak so far.
    """

    lasts = False  # waiting for the disk takes longer than training a small client

    client: ClientId
    round: Count
    host: str
    pid: Count
    device: str
    threads: Count
    epoch: Count
    epochs: Count
    updated: str
    images_per_second: float | None = None
    peak_memory_bytes: Count | None = None


class HeartbeatWriter:
    """Reports the progress of one client's training, inside a ``with`` block.

    ``device`` is written as torch does: ``cpu``, ``cuda:0``. The first heartbeat follows ``after``
    so many seconds.
    """

    def __init__(
        self, round_: Round, client: str, *, device: str, threads: int, after: float = 0.0
    ) -> None:
        self._path = round_.heartbeat(client)
        self._beat = partial(
            Heartbeat,
            client=client,
            round=round_.number,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device,
            threads=threads,
        )
        self._due = time.monotonic() + after

    @property
    def due(self) -> bool:
        """Whether ``update`` would write now."""
        return time.monotonic() >= self._due

    def update(
        self,
        *,
        epoch: int,
        epochs: int,
        images_per_second: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Report the current epoch, from 1; may be called after every batch.

        ``memory_bytes`` is the peak so far.
        """
        started = time.monotonic()
        if started < self._due:
            return
        beat = self._beat(
            epoch=epoch,
            epochs=epochs,
            images_per_second=images_per_second,
            peak_memory_bytes=memory_bytes,
            updated=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with contextlib.suppress(FedcliError):
            beat.write(self._path)
        ended = time.monotonic()
        self._due = ended + max(_INTERVAL, (ended - started) / _SHARE)

    def remove(self) -> None:
        """Remove the file, and its directory once empty."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


@dataclass(frozen=True)
class Training:
    """A training as last reported, ``seconds_ago``; unreported values are None.

    It is ``stopped`` if it ran on this host and its process is gone, and ``silent`` after a minute
    without a heartbeat.
    """

    client: str
    state: State
    seconds_ago: int
    epoch: int
    epochs: int
    images_per_second: float | None
    peak_memory_bytes: int | None
    device: str
    threads: int
    host: str
    pid: int
    updated: str


def read_training(round_: Round) -> tuple[Training, ...]:
    """Return the reported trainings of a round, in client order.

    Unreadable and invalid files are ignored.
    """
    try:
        paths = list(round_.heartbeat("any").parent.glob("*.json"))
    except FileNotFoundError:  # the last training ended, and removed the folder
        return ()
    clients = [path.stem for path in paths]
    found = (_read(round_, client) for client in client_order(filter(is_client_id, clients)))
    return tuple(training for training in found if training is not None)


def _read(round_: Round, client: str) -> Training | None:
    try:
        beat = Heartbeat.read(round_.heartbeat(client))
        if beat is None:
            return None
        age = age_of(beat.updated)
        state = state_of(beat.host, beat.pid, age)
    except (FedcliError, TypeError, ValueError, OverflowError):  # an invalid time or pid
        return None
    updated = datetime.fromisoformat(beat.updated).isoformat()
    facts = {**vars(beat), "client": client, "updated": updated}
    del facts["round"]
    return Training(state=state, seconds_ago=age, **facts)


def age_of(updated: str) -> int:
    """Return how many seconds ago a time in ISO 8601 was, at least 0.

    Raises ``TypeError``, ``ValueError`` or ``OverflowError`` for what is not such a time.
    """
    since = datetime.now(UTC) - datetime.fromisoformat(updated)
    return max(0, round(since.total_seconds()))


def state_of(host: str, pid: int, age: int) -> State:
    """Return the state of a process that reported ``age`` seconds ago."""
    if host == socket.gethostname() and not is_running(pid):
        return "stopped"
    return "silent" if age > _SILENT else "training"
