"""Findings of a verification: each has one file and one kind of problem."""

from dataclasses import dataclass
from enum import StrEnum


class Problem(StrEnum):
    """What is wrong with a file.

    A missing file may have been deleted or is kept elsewhere; a lost one is needed. An unchecked
    one is not in this copy of the run, or nothing in it names its SHA-256. A file differs if its
    replay gave other bytes; it is not replayed if that is impossible here. Foreign files are not
    part of the run. A note is not a fault.
    """

    CHANGED = "changed"
    LOST = "lost"
    DIFFERS = "differs"
    UNCHECKED = "unchecked"
    MISSING = "missing"
    NOT_REPLAYED = "not-replayed"
    FOREIGN = "foreign"
    NOTE = "note"


WRONG = frozenset({Problem.CHANGED, Problem.LOST, Problem.DIFFERS})


class Section(StrEnum):
    """Kinds of files of a run, in the order of the report."""

    RUN = "run.json"
    DATA = "data"
    MODELS = "global models"
    DELTAS = "deltas"
    MANIFESTS = "manifests"
    SERVER_STATES = "server states"
    UPDATES = "updates"
    TELEMETRY = "telemetry"
    SIGNATURES = "signatures"
    CLIENT_STATES = "client states"
    LEDGERS = "ledgers"
    PARTIALS = "partial means"
    MASKS = "shares and answers"
    EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class FileCount:
    """The number of files of one kind that exist or should, by state."""

    what: str
    files: int
    sound: int
    missing: int
    changed: int


@dataclass(frozen=True)
class Finding:
    """One finding. ``file`` is relative to the run; ``message`` completes a sentence about it.

    ``expected`` and ``found`` are SHA-256s, hex, if these differ.
    """

    file: str
    problem: Problem
    message: str
    expected: str | None = None
    found: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether the finding makes the run unsound."""
        return self.problem in WRONG
