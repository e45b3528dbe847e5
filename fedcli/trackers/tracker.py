"""The interface of trackers, and how the runs of a report come into one."""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from fedcli.errors import MissingDependencyError
from fedcli.progress import Progress
from fedcli.reporting.run_report import RunReport
from fedcli.trackers.history import History, history_of


class Tracker(Protocol):
    """Where the histories of runs are kept."""

    def open(self) -> None:
        """Import the library and connect. Raises ``MissingDependencyError``, ``StorageError``."""

    def place(self, history: History) -> str:
        """Return where a history is or will be, for a message."""

    def has(self, history: History) -> bool:
        """Return whether exactly this is kept. Raises ``ConflictError`` if its place is taken."""

    def put(self, history: History) -> bool:
        """Keep a history; return whether it replaces one of the same run, by the same name."""

    def close(self) -> None:
        """Finish what was begun; also after an error, and if it was never opened."""


def track(runs: Sequence[RunReport], tracker: Tracker, progress: Progress) -> None:
    """Keep the histories of runs; one that is kept already is left as it is.

    Raises ``MissingDependencyError``, ``ConflictError`` before anything is written, and
    ``StorageError``.
    """
    histories = [history_of(run) for run in runs]
    try:
        tracker.open()
        kept = [tracker.has(history) for history in histories]
        progress.start("writing", len(histories))
        for history, is_kept in zip(histories, kept, strict=True):
            _keep(history, tracker, progress, is_kept=is_kept)
    finally:
        tracker.close()


def _keep(history: History, tracker: Tracker, progress: Progress, *, is_kept: bool) -> None:
    if is_kept:
        progress.say(f"{tracker.place(history)}: already done, nothing changed")
    else:
        done = "replaced" if tracker.put(history) else "wrote"
        progress.say(f"{done} {tracker.place(history)}")
    if history.left_out:
        few = " and ".join(history.left_out)
        progress.say(f"{tracker.place(history)}: values of {few}; --csv has all")
    progress.advance()


def require(what: str, extra: str, *modules: str) -> None:
    """Import modules that belong to an extra of fedcli. Raises ``MissingDependencyError``."""
    try:
        for module in modules:
            import_module(module)
    except ImportError as error:
        name = (error.name or modules[0]).split(".")[0]
        raise MissingDependencyError(
            f"{what} needs {name}, which is not installed", hint=f"pip install 'fedcli[{extra}]'"
        ) from None
