"""The survey of a run: what was read, what files claim about each other, and the conclusions.

Every file is read once. What one file says about another is noted as a claim. At the end, the
claims on a file are compared with each other and with the file, which distinguishes a changed file
from a wrong claim about it.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fedcli.aggregation.base_model import Base, Contents
from fedcli.errors import BadInputError, NotReadyError, StorageError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import FileRecord
from fedcli.formats.update_tensors import open_checkpoint
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.verification.findings import Finding, Problem, Section

if TYPE_CHECKING:
    from fedcli.formats.manifest import Manifest

Record = TypeVar("Record", bound=FileRecord)
Consumer = Callable[[Checkpoint, memoryview, int], None]
_AWAY = "is not here"


@dataclass(frozen=True)
class Claim:
    """What ``source`` says about a file; ``bytes`` and ``examples`` are None if it does not say.

    A claim that is not ``firm`` does not outweigh the file alone: its source may have been made
    from another file.
    """

    source: Path
    sha256: str
    bytes: int | None = None
    examples: int | None = None
    firm: bool = True


@dataclass(frozen=True)
class ReadFile:
    """A checkpoint that was read; ``examples`` is the number it was trained on."""

    sha256: str
    bytes: int
    examples: int | None


class Survey:
    """The state of a verification.

    ``manifests`` holds those of complete rounds, ``accepted`` the clients whose update of a round
    went into a model. ``model`` is the layout of the run's model, known once the first global model
    is read. ``states`` holds the SHA-256s of client states, by client and round, and ``private``
    the updates that were trained with differential privacy, by client. ``doubted`` are the rounds
    whose model was made from other updates than the manifest lists. With ``whole``, all files that
    a coordinator needs have to be here; a client's copy has few of them.
    """

    def __init__(self, run: Run, progress: Progress, *, whole: bool = True) -> None:
        self.run = run
        self.whole = whole
        self.progress = progress
        self.manifests: dict[int, Manifest] = {}
        self.doubted: set[int] = set()
        self.accepted: defaultdict[int, set[str]] = defaultdict(set)
        self.model: Base | None = None
        self.counted: dict[Path, Section] = {}
        self.read: dict[Path, ReadFile] = {}
        self.states: dict[str, dict[int, str]] = {}
        self.private: dict[str, list[Metadata]] = {}
        self.findings: dict[Finding, None] = {}  # a set in order
        self._claims: dict[Path, list[Claim]] = {}
        self._rejected: dict[Path, str] = {}

    def name(self, path: Path) -> str:
        """Return a file's name relative to the run."""
        return path.relative_to(self.run.root).as_posix()

    def needed(self, why: str) -> tuple[Problem, str]:
        """Return how a missing file that a coordinator needs is reported; ``why`` it is needed."""
        return (Problem.LOST, f"is missing{why}") if self.whole else (Problem.UNCHECKED, _AWAY)

    def deleted(self, message: str) -> tuple[Problem, str]:
        """Return how a missing file is reported that a coordinator may delete."""
        return (Problem.MISSING, message) if self.whole else (Problem.UNCHECKED, _AWAY)

    def add(
        self,
        problem: Problem,
        path: Path,
        message: str,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        """Add a finding once. A fault of a rejected update is a note: it went into no model."""
        if problem == Problem.CHANGED and (reason := self._rejected.get(path)):
            problem, message = Problem.NOTE, f"{message} (rejected: {reason})"
        self.findings[Finding(self.name(path), problem, message, expected, found)] = None

    def holding(self, found: Metadata) -> Base | None:
        """Return the part of the model that an update or partial mean claims to hold.

        Returns None before a model is read. Raises ``ValueError`` for impossible contents.
        """
        return None if self.model is None else Contents.of(found).applied_to(self.model)

    def claim(self, path: Path, claim: Claim) -> None:
        """Note what one file says about another."""
        self._claims.setdefault(path, []).append(claim)

    def reject(self, path: Path, reason: str) -> None:
        """Note that a manifest rejects an update, and why."""
        self._rejected[path] = reason

    def is_rejected(self, path: Path) -> bool:
        """Return whether a manifest rejects an update."""
        return path in self._rejected

    def count(self, section: Section, path: Path) -> None:
        """Count a file that exists or was expected."""
        if path not in self.counted:
            self.counted[path] = section
            self.progress.advance()

    def record(
        self,
        section: Section,
        path: Path,
        record: type[Record],
        missing: tuple[Problem, str] | None,
        broken: Problem = Problem.CHANGED,
    ) -> Record | None:
        """Read a JSON file; return None if it is missing or cannot be read.

        ``missing`` and ``broken`` say how that is reported; without ``missing``, the file is
        optional.
        """
        if missing is None and not os.path.lexists(path):
            return None
        self.count(section, path)
        try:
            found = record.read(path)
        except BadInputError as error:
            self.add(broken, path, error.about(path))
            return None
        except StorageError as error:
            self.add(Problem.LOST, path, error.about(path))
            return None
        if found is None and missing is not None:
            self.add(missing[0], path, missing[1])
        return found

    def checkpoint(
        self,
        section: Section,
        path: Path,
        kind: Kind,
        check: Callable[[Checkpoint], None],
        missing: tuple[Problem, str],
        consume: Consumer | None = None,
        most: int | None = None,
    ) -> Metadata | None:
        """Read and hash a checkpoint of at most ``most`` bytes, and return its metadata.

        ``check`` raises ``ValueError`` for faults. Returns None if the checkpoint is missing, which
        is reported as ``missing`` says, or faulty: its claims are then ignored.
        """
        self.count(section, path)
        try:
            with open_checkpoint(path, kind, most=most) as found:
                sha256 = found.read_through(consume and partial(consume, found))
                self.read[path] = ReadFile(sha256, found.size, found.metadata.num_examples)
                check(found)
                return found.metadata
        except NotReadyError:
            self.add(missing[0], path, missing[1])
        except BadInputError as error:
            self.add(Problem.CHANGED, path, error.about(path))
        except StorageError as error:
            self.add(Problem.LOST, path, error.about(path))
        except ValueError as error:
            self.add(Problem.CHANGED, path, str(error))
        return None

    def judge(self) -> None:
        """Compare the claims with each other and with the files."""
        for path, claims in self._claims.items():
            self._judge(path, claims)
        absent = any(finding.problem == Problem.UNCHECKED for finding in self.findings)
        if absent and self.run.info.coordinator is None:
            self._report_unnamed()

    def _report_unnamed(self) -> None:
        """Report the global models that nothing in this copy names and nobody has signed."""
        for path, section in self.counted.items():
            if section == Section.MODELS and path in self.read and path not in self._claims:
                message = "is here, but nothing here says what its SHA-256 should be"
                self.add(Problem.UNCHECKED, path, message, found=self.read[path].sha256)

    def _judge(self, path: Path, claims: list[Claim]) -> None:
        read = self.read.get(path)
        right = _right(claims, None if read is None else read.sha256)
        for claim in claims:
            if claim.sha256 != right:
                message = f"names another SHA-256 for {self.name(path)}"
                self.add(Problem.CHANGED, claim.source, message, right, claim.sha256)
        if read is None:
            return
        if read.sha256 != right:
            sources = [claim.source for claim in claims if claim.sha256 == right]
            more = f", and {len(sources) - 1} more files" if len(sources) > 1 else ""
            message = f"does not have the SHA-256 that {self.name(sources[0])} names{more}"
            self.add(Problem.CHANGED, path, message, right, read.sha256)
            return
        for claim in claims:
            self._judge_facts(path, read, claim)

    def _judge_facts(self, path: Path, read: ReadFile, claim: Claim) -> None:
        for what, said, found in (
            ("bytes", claim.bytes, read.bytes),
            ("examples", claim.examples, read.examples),
        ):
            if claim.sha256 == read.sha256 and said is not None and said != found:
                message = f"says that {self.name(path)} has {said} {what}; it has {found}"
                self.add(Problem.CHANGED, claim.source, message)


def _right(claims: list[Claim], found: str | None) -> str:
    """Return the SHA-256 by majority of the claims and the file.

    In a tie, a firm claim outweighs the file.
    """
    voices = Counter(claim.sha256 for claim in claims)
    if found is not None:
        voices[found] += 1
    most = max(voices.values())
    best = [sha256 for sha256, count in voices.items() if count == most]
    firm = [claim.sha256 for claim in claims if claim.firm and claim.sha256 in best]
    if found in best and (found in firm or not firm):
        return found
    return (firm or best)[0]


def expect(what: str, expected: object, found: object) -> None:
    """Raise ``ValueError`` that names the difference, if any."""
    if expected != found:
        raise ValueError(f"{what}: expected {expected}, found {found}")


def expect_place(run: Run, found: Metadata, round_: Round | None, client: str | None) -> None:
    """Raise ``ValueError`` if the run, round or client of a checkpoint does not match its place."""
    expect("run", run.id, found.run)
    expect("round", None if round_ is None else round_.number, found.round)
    expect("client", client, found.client)
