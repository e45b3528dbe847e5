"""The sandbox of a replay, and the comparison of bytes.

The step itself runs in a temporary directory that links to the folders of the run.
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
from fedcli.security.noise_key import NoiseKey


class CannotReplayError(Exception):
    """A file cannot be replayed here; not a fault of the file."""


class DifferenceError(Exception):
    """The replay of a file gave other bytes."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class UserCode:
    """What is given by option: code as ``package.module:name``, and the key of secret noise.

    Names in files are never imported.
    """

    model: str | None = None
    reduce: str | None = None
    noise_key: NoiseKey | None = None


@contextmanager
def sandbox(
    run: Run,
    round_: Round,
    source: Path,
    plan: Mapping[str, Any],
    parts: Iterable[str],
    *,
    signed: bool = False,
) -> Iterator[Run]:
    """Provide a run in a temporary directory, with this plan, to replay a round in.

    Earlier rounds and ``parts``, paths in the run, are links to folders of the run, where nothing
    is written. No signatures are needed unless it is ``signed``, as masks need the keys of members.
    Raises ``DifferenceError`` if the plan, which the file ``source`` records, is invalid, and
    ``OSError``.
    """
    try:
        recorded = Plan.from_mapping(plan, "what is recorded")
        if signed:
            info = replace(run.info, plan=recorded)
        else:
            info = replace(run.info, plan=recorded, members={}, masking_keys={}, coordinator=None)
    except FedcliError as error:
        raise DifferenceError(source, f"cannot have been made like this: {error.message}") from None
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
    """Raise ``DifferenceError`` that describes the difference unless two files are equal."""
    if digest(path) == digest(again):
        return
    try:
        with open_checkpoint(path, kind) as expected, open_checkpoint(again, kind) as found:
            tensor = first_difference(expected, found)
            same = expected.metadata == found.metadata
    except FedcliError as error:
        raise DifferenceError(path, error.about(path)) from None
    if tensor is None:
        tensor = "its layout differs" if same else "only its metadata differs"
    raise DifferenceError(path, f"differs when replayed: {tensor}")
