"""Files that a report can do without: one that cannot be used is left out, and a note says so."""

from pathlib import Path
from typing import TypeVar

from fedcli.errors import BadInputError, StorageError
from fedcli.formats.records import FileRecord
from fedcli.reporting.run_report import Note
from fedcli.run import Run

Record = TypeVar("Record", bound=FileRecord)
_NOTES = 10


class OptionalFiles:
    """Reads the JSON files of a run, and remembers those that cannot be used."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._faults: list[str] = []

    def read(self, record: type[Record], path: Path) -> Record | None:
        """Read a file; return None if it does not exist or cannot be used."""
        try:
            return record.read(path)
        except (BadInputError, StorageError) as error:
            self.leave_out(path, error.about(path))
            return None

    def leave_out(self, path: Path, reason: str) -> None:
        """Note that a file is not used, and why."""
        name = path.relative_to(self._run.root).as_posix()
        self._faults.append(f"{name} is left out of this report: {reason}")

    def notes(self) -> list[Note]:
        """Return a note on each file that was left out; on many, a note on the number of them."""
        notes = [Note(fault) for fault in self._faults[:_NOTES]]
        if more := self._faults[_NOTES:]:
            notes.append(Note(f"{len(more)} more files cannot be used and are left out"))
        return notes
