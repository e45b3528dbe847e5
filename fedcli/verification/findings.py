"""What a check of a run finds: each finding is of one file, and of one sort."""

from dataclasses import dataclass
from enum import StrEnum


class Problem(StrEnum):
    """What is the matter with a file.

    A missing file is one that may be deleted or kept elsewhere; a lost one is needed. What
    differs was made again from what its round records, and came out otherwise; what was not
    replayed could not be made again here. A note is no fault of the file.
    """

    CHANGED = "changed"
    LOST = "lost"
    DIFFERS = "differs"
    MISSING = "missing"
    NOT_REPLAYED = "not-replayed"
    FOREIGN = "foreign"
    NOTE = "note"


WRONG = frozenset({Problem.CHANGED, Problem.LOST, Problem.DIFFERS})


class Section(StrEnum):
    """The sorts of files of a run, in the order in which they are told of."""

    RUN = "run.json"
    DATA = "data"
    MODELS = "global models"
    MANIFESTS = "manifests"
    SERVER_STATES = "server states"
    UPDATES = "updates"
    TELEMETRY = "telemetry"
    SIGNATURES = "signatures"
    CLIENT_STATES = "client states"
    PARTIALS = "partial means"
    EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class FileCount:
    """How many files of one sort there are, or should be, and how they are."""

    what: str
    files: int
    sound: int
    missing: int
    changed: int


@dataclass(frozen=True)
class Finding:
    """One finding. ``file`` is relative to the run; ``message`` is a whole sentence.

    ``expected`` and ``found`` are SHA-256s, hex, where these are what differs.
    """

    file: str
    problem: Problem
    message: str
    expected: str | None = None
    found: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether the run is not sound."""
        return self.problem in WRONG
