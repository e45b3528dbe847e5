"""TensorBoard: a folder for each run, with one event file that is replaced as a whole.

The wall time of an event is the number of seconds that the run had taken by then. TensorBoard
stores values in single precision.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fedcli.errors import ConflictError
from fedcli.storage.atomic import storage_errors, write_bytes
from fedcli.trackers.history import History, RoundValues
from fedcli.trackers.names import safe
from fedcli.trackers.tracker import require

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

# TensorBoard reads files that have "tfevents" in their names, in the order of the names.
_OWN = re.compile(r"events\.out\.tfevents\.[0-9]+\.fedcli\.([0-9a-f]{16})\.[0-9a-f]{16}")


class TensorBoard:
    """A log directory of TensorBoard."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self) -> None:
        """Import tensorboard. Raises ``MissingDependencyError``."""
        require("--tensorboard", "tensorboard", "tensorboard.compat.proto.event_pb2")

    def place(self, history: History) -> str:
        """Return the folder of a run."""
        return str(self._folder(history))

    def has(self, history: History) -> bool:
        """Return whether the one event file has this content. Raises ``ConflictError``."""
        return [path.name.split(".")[-1] for path in self._files(history)] == [history.content[:16]]

    def put(self, history: History) -> bool:
        """Write an event file, and then remove the earlier one. Raises ``ConflictError``.

        Its name is new, so that a TensorBoard that runs meanwhile notices it.
        """
        earlier = self._files(history)
        number = 1 + max((int(path.name.split(".")[3]) for path in earlier), default=0)
        name = f"events.out.tfevents.{number:06}.fedcli.{history.key}.{history.content[:16]}"
        write_bytes(self._folder(history) / name, event_file(history))
        with storage_errors("remove", self._folder(history)):
            for path in earlier:
                path.unlink(missing_ok=True)
        return bool(earlier)

    def close(self) -> None:
        """Do nothing: every file is complete."""

    def _folder(self, history: History) -> Path:
        return self.directory / safe(history.name)

    def _files(self, history: History) -> list[Path]:
        """Return the event files in the folder of a run. Raises ``ConflictError`` for another's."""
        with storage_errors("read", self._folder(history)):
            files = sorted(self._folder(history).glob("[!.]*tfevents*"))
        own = (_OWN.fullmatch(path.name) for path in files)
        if not all(match and match[1] == history.key for match in own):
            raise ConflictError(
                f"has event files of something else than run {history.name}",
                hint="name another directory, or call the run otherwise with --label",
                path=self._folder(history),
            )
        return files


def event_file(history: History) -> bytes:
    """Return the history of a run in the format of TensorBoard's event files."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = BytesIO()
    writer = RecordWriter(file)
    for event in _events(history):
        writer.write(event.SerializeToString(deterministic=True))
    return file.getvalue()


def _events(history: History) -> Iterator["Event"]:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    yield Event(file_version="brain.Event:2")
    # What was read of an earlier file of this run is dropped.
    yield Event(session_log=SessionLog(status=SessionLog.START))
    parameters = hparams_pb(history.settings, trial_id=history.key, start_time_secs=0)
    yield Event(summary=parameters)
    yield from map(_scalars, history.rounds)


def _scalars(one: RoundValues) -> "Event":
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = (Summary.Value(tag=tag, simple_value=value) for tag, value in one.values.items())
    return Event(wall_time=one.seconds, step=one.number, summary=Summary(value=values))
