"""What it takes to make a file of a run again, from what is recorded, and to compare the bytes.

It is done in a directory aside that links to the folders of the run, by the step itself.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.errors import FedcliError
from fedcli.formats.checkpoint import digest
from fedcli.formats.diff import first_difference
from fedcli.formats.metadata import Kind
from fedcli.formats.update_tensors import open_checkpoint
from fedcli.plan import Plan
from fedcli.run import Run
from fedcli.run.round import Round


class CannotReplayError(Exception):
    """What is missing to make a file again; no fault of the file."""


class DifferenceError(Exception):
    """A file that was made again is another."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Own:
    """Code of the person who replays, as ``package.module:name``; no file's word is run."""

    model: str | None = None
    reduce: str | None = None


@contextmanager
def aside(
    run: Run, round_: Round, source: Path, plan: Mapping[str, Any], parts: Iterable[str]
) -> Iterator[Run]:
    """Give a run in a directory of its own, with this plan, in which a round is to be made again.

    Earlier rounds and ``parts``, paths in the run, are links to the folders of the run; nothing is
    written there. What is signed there needs no signature here. Raises ``DifferenceError`` where
    the plan, which the file ``source`` records, cannot have been one, and ``OSError``.
    """
    try:
        recorded = Plan.from_mapping(plan, "what is recorded")
        info = replace(run.info, plan=recorded, members={}, coordinator=None)
    except FedcliError as error:
        raise DifferenceError(source, f"cannot have been made so: {error.message}") from None
    with tempfile.TemporaryDirectory(prefix="fedcli-replay-") as directory:
        copy = Run(Path(directory), info, run.id)
        copy.round(round_.number).path.mkdir(parents=True)
        earlier = [one.path for one in run.rounds() if one.number < round_.number]
        for folder in (*earlier, *map(run.root.joinpath, parts)):
            if folder.is_dir():
                target = copy.root / folder.relative_to(run.root)
                target.symlink_to(folder.resolve(), target_is_directory=True)
        yield copy


def compare(path: Path, again: Path, kind: Kind) -> None:
    """Raise ``DifferenceError`` where two files are not the same bytes, and say what differs."""
    if digest(path) == digest(again):
        return
    try:
        with open_checkpoint(path, kind) as expected, open_checkpoint(again, kind) as found:
            tensor = first_difference(expected, found)
            same = expected.metadata == found.metadata
    except FedcliError as error:
        raise DifferenceError(path, error.about(path)) from None
    if tensor is None:
        tensor = "its layout differs" if same else "only what it says of itself differs"
    raise DifferenceError(path, f"comes out otherwise when it is made again: {tensor}")
