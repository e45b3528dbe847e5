"""What a client tells of its training while it lasts: a small file that ``status`` reads.

It is written every second or so, and removed when the training ends, well or not. A process that
is killed leaves it behind; it does no harm, says by its time that it is old, and is replaced when
the client trains again. Nothing depends on it: what cannot be written is left.
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

_INTERVAL = 1.0  # seconds between two writes
_SHARE = 0.02  # of the time that writing may take, where the disk is slow
_SILENT = 60.0  # seconds after which one that writes no more is not said to train


@dataclass(frozen=True)
class Heartbeat(FileRecord):
    """``training/ID.json``: the epoch that a training is in, from 1, of how many, and where.

    ``updated`` is in ISO 8601, UTC; ``peak_memory_bytes`` is the most that was in use so far.
    """

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
    """Tells how far the training of one client is, from inside the ``with`` block it is made for.

    ``device`` is written as torch does: ``cpu``, ``cuda:0``.
    """

    def __init__(self, round_: Round, client: str, *, device: str, threads: int) -> None:
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
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether an update would be written now."""
        return time.monotonic() >= self._due

    def update(
        self,
        *,
        epoch: int,
        epochs: int,
        images_per_second: float | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Tell which epoch it is in, from 1; it may be called with every batch.

        ``memory_bytes`` is the most that was in use so far.
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
        """Remove the file, and its directory with the last one in it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


@dataclass(frozen=True)
class Training:
    """A client that trains, as it told ``seconds_ago``; what it did not tell is None.

    It is ``stopped`` when it ran on this host and its process is gone, and ``silent`` when it has
    not told anything for a minute.
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
    """Return the clients that tell of their training in a round, in client order.

    Files that cannot be read, or not be understood, are passed over.
    """
    clients = [path.stem for path in round_.heartbeat("any").parent.glob("*.json")]
    found = (_read(round_, client) for client in client_order(filter(is_client_id, clients)))
    return tuple(training for training in found if training is not None)


def _read(round_: Round, client: str) -> Training | None:
    try:
        told = Heartbeat.read(round_.heartbeat(client))
        if told is None:
            return None
        updated = datetime.fromisoformat(told.updated)
        age = max(0, round((datetime.now(UTC) - updated).total_seconds()))
        state = _state(told.host, told.pid, age)
    except (FedcliError, TypeError, ValueError, OverflowError):  # of the time, and of the pid
        return None
    facts = {**vars(told), "client": client, "updated": updated.isoformat()}
    del facts["round"]
    return Training(state=state, seconds_ago=age, **facts)


def _state(host: str, pid: int, age: int) -> State:
    if host == socket.gethostname() and not is_running(pid):
        return "stopped"
    return "silent" if age > _SILENT else "training"
