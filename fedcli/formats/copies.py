"""What ``push`` and ``pull`` note in a run: whose copy it is, and what is the same elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcli.formats.records import ClientId, FileRecord


@dataclass(frozen=True)
class CopyFile(FileRecord):
    """``copy.json``: this directory is a client's copy of a run, made by ``pull``.

    ``clients`` are those who work in it; empty if that was not said.
    """

    run: str
    clients: tuple[ClientId, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """A file that was the same at a remote and here, and the state of both files then."""

    here: str
    there: str


@dataclass(frozen=True)
class ReceiptsFile(FileRecord):
    """``receipts.json``: files by remote, so that they need not be read again to be compared."""

    run: str
    remotes: Mapping[str, Mapping[str, Receipt]] = field(default_factory=dict)
