"""The one reader of updates: whether each fits its round, and what it holds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import PARTIAL_DTYPE, Base, Bases
from fedcli.aggregation.block_files import BlockFile
from fedcli.errors import BadInputError, StorageError, UpdateError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.dtypes import DTYPE_NAMES
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout
from fedcli.formats.telemetry import Telemetry
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.run.round import Round
from fedcli.security.signatures import signature_fault
from fedcli.strategies.combination import Contributor
from fedcli.text import brief

# A process may often open 1024 files. The updates beyond these are opened anew for every block.
_KEPT_OPEN = 256
_MOST_EXAMPLES = 10**9  # of one client: who says more wants to weigh more
NO_DIGEST = "0" * 64  # as long as a digest, until it is known


def _partial_dtype(_: np.dtype[Any]) -> np.dtype[Any]:
    return PARTIAL_DTYPE


class Update:
    """An update that was checked against its base, or a partial mean of several.

    ``members`` are the clients of a partial mean with their updates' SHA-256; empty for an update.
    ``staleness`` counts the rounds since its own.
    """

    def __init__(
        self, name: str, base: Base, checkpoint: Checkpoint, members: Mapping[str, str], now: int
    ) -> None:
        self.name = name
        self.base = base
        self.path = checkpoint.path
        self.bytes = checkpoint.size
        self.members = members
        self.num_examples = checkpoint.metadata.num_examples or 0
        self.training = checkpoint.metadata.training
        self.staleness = now - base.round.number
        self.values = BlockFile(
            checkpoint, base.layout, floats=_partial_dtype if members else None, hashed=True
        )

    @property
    def contributor(self) -> Contributor:
        """What a rule may know of it."""
        return Contributor(
            self.name,
            self.path,
            self.num_examples,
            max(1, len(self.members)),
            self.staleness,
            self.training,
        )

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex, once every block has been read."""
        return self.values.digest()

    def way_out(self) -> str:
        """Return what can be done where it cannot be used."""
        return _way_out(self.base, self.name, self.base.round.number + self.staleness)

    def error(self, what: str) -> UpdateError:
        """Return the error of an update that cannot be used; ``what`` says why."""
        if self.members:
            return UpdateError(f"{self.path}: {what}")
        return UpdateError(f"{self.path}: {what}", hint=self.way_out(), culprit=self.path)


@dataclass(frozen=True)
class Opened:
    """The updates of a round, and its base with what they hold."""

    base: Base
    updates: list[Update]


@contextmanager
def open_updates(
    run: Run,
    round_: Round,
    accepted: Sequence[tuple[int, str]],
    partials: Sequence[Path] = (),
    weighting: str = "",
    max_examples: float | None = None,
) -> Iterator[Opened]:
    """Open updates and check each against its own base, then partial means of the same weighting.

    ``accepted`` are clients with the rounds of their updates, ``max_examples`` is the most that
    one may say it was trained on. Nothing but headers is read. Raises ``UpdateError`` that names
    the file, the tensor, what was expected and what was found; of all updates together.
    """
    now = round_.number
    bases = Bases(run, sorted({now, *(number for number, _ in accepted)}))
    most = _MOST_EXAMPLES if max_examples is None else max_examples
    updates: list[Update] = []
    try:
        _open_all(bases, accepted, now, most, updates)
        for path in partials:
            updates.append(_open_partial(bases, path, weighting, now))
            _rest_if_many(updates)
        yield Opened(bases.of(now), updates)
    finally:
        _close(updates)


def _open_all(
    bases: Bases, accepted: Sequence[tuple[int, str]], now: int, most: float, into: list[Update]
) -> None:
    """Open the updates of clients; a second time where the first of them holds what most do not."""
    while True:
        errors = []
        for number, client in accepted:
            try:
                into.append(_open_update(bases, number, client, now, most))
            except UpdateError as error:
                errors.append(error)
            _rest_if_many(into)
        if not errors:
            return
        if not bases.outvoted():
            raise UpdateError.together(errors)
        _close(into)
        into.clear()


def _rest_if_many(updates: Sequence[Update]) -> None:
    if len(updates) > _KEPT_OPEN:
        updates[-1].values.keep_open = False
        updates[-1].values.close()


def _close(updates: Sequence[Update]) -> None:
    for update in updates:
        update.values.close()


@contextmanager
def _closed_on_error(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except BaseException:
        checkpoint.close()
        raise


def _open_update(bases: Bases, number: int, client: str, now: int, most: float) -> Update:
    base = bases.of(number)
    path, hint = base.round.update(client), _way_out(base, client, now)
    try:
        checkpoint = Checkpoint(path, Kind.UPDATE)
    except BadInputError as error:
        raise UpdateError(error.message, hint=hint, culprit=path) from None
    with _closed_on_error(checkpoint):
        try:
            base = _fitting_update(bases, number, client, checkpoint, most)
        except ValueError as error:
            raise UpdateError(f"{path}: {error}", hint=hint, culprit=path) from None
        return Update(client, base, checkpoint, {}, now)


def _fitting_update(
    bases: Bases, number: int, client: str, checkpoint: Checkpoint, most: float
) -> Base:
    """Return the base of an update that fits it; raise ``ValueError`` that says what is wrong."""
    found = checkpoint.metadata
    if found.client != client:
        raise ValueError(f"is of client {found.client}, expected {client}")
    _check_origin(bases.of(number), found)
    if (found.num_examples or 0) > most:
        raise ValueError(f"has num_examples {found.num_examples}, expected {most} at most")
    before = bases.of(number)
    if fault := signature_fault(before.run, before.round, client, None):
        raise ValueError(fault)
    base = bases.agreed(number, f"the update of client {client}", found)
    check_tensors(base, base.layout, checkpoint)
    return base


def _open_partial(bases: Bases, path: Path, weighting: str, now: int) -> Update:
    checkpoint = Checkpoint(path, Kind.PARTIAL)
    with _closed_on_error(checkpoint):
        try:
            base = _fitting_partial(bases, now, weighting, checkpoint)
        except ValueError as error:
            hint = "fedcli aggregate --partial makes it again"
            raise UpdateError(f"{path}: {error}", hint=hint) from None
        return Update(path.stem, base, checkpoint, dict(checkpoint.metadata.updates or {}), now)


def _fitting_partial(bases: Bases, now: int, weighting: str, checkpoint: Checkpoint) -> Base:
    found = checkpoint.metadata
    _check_origin(bases.of(now), found)
    base = bases.agreed(now, str(checkpoint.path), found)
    check_tensors(base, base.partial_layout(), checkpoint)
    if not found.updates:
        raise ValueError("names no update")
    if found.weighting != weighting:
        raise ValueError(f"was made with --weighting {found.weighting}, not {weighting}")
    return base


def _way_out(base: Base, client: str, now: int) -> str:
    """Return what can be done about an update that round ``now`` cannot use."""
    again = f"{train_command(base.run, [client], base.round.number)} --force"
    force = " --force" if base.run.round(now).global_model.exists() else ""
    without = base.run.command(f"aggregate --round {now} --exclude {client}{force}")
    return f"train it again: {again}, or leave it out: {without}"


def _check_origin(base: Base, found: Metadata) -> None:
    for what, expected, value in (
        ("belongs to run", base.run.id, found.run),
        ("belongs to round", base.round.number, found.round),
        (f"was trained from another base model than {base.path}: SHA-256", base.sha256, found.base),
    ):
        if value != expected:
            raise ValueError(f"{what} {value}, expected {expected}")
    if found.num_examples is None or found.num_examples < 1:
        raise ValueError(f"has num_examples {found.num_examples}, expected 1 or more")


def check_tensors(base: Base, expected: Layout, checkpoint: Checkpoint) -> None:
    """Raise ``ValueError`` for the first tensor that is not as expected, and for other roles."""
    found = checkpoint.layout
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"tensor {name!r} is missing")
        if name in base.whole and name not in expected:
            raise ValueError(f"has a tensor {name!r}, and says that it withholds it")
        if name not in expected:
            raise ValueError(f"has a tensor {name!r} that the base model does not have")
        a, b = expected[name], found[name]
        if a.shape != b.shape:
            raise ValueError(
                f"tensor {name!r}: expected shape {list(a.shape)}, found {list(b.shape)}"
            )
        if a.dtype != b.dtype:
            dtypes = DTYPE_NAMES[a.dtype], DTYPE_NAMES[b.dtype]
            raise ValueError(f"tensor {name!r}: expected dtype {dtypes[0]}, found {dtypes[1]}")
    roles = checkpoint.metadata.roles
    if dict(roles) != dict(base.roles):
        raise ValueError(f"has tensor roles {dict(roles)}, expected {dict(base.roles)}")


def check_sources(updates: Sequence[Update]) -> None:
    """Check of updates that were read that they are what their clients wrote.

    They have to have the digest that the client noted beside the update, and in a run with members
    its signature. Raises ``UpdateError``, of all updates together. Telemetry that is missing or
    broken says nothing.
    """
    if errors := [update.error(fault) for update in updates if (fault := _source_fault(update))]:
        raise UpdateError.together(errors)


def _source_fault(update: Update) -> str | None:
    base, sha256 = update.base, update.digest()
    if base.run.info.members:  # anybody can write a note; of the signature's own author is the rest
        return signature_fault(base.run, base.round, update.name, sha256)
    try:
        told = Telemetry.read(base.round.telemetry(update.name))
    except (BadInputError, StorageError):
        return None
    if told is None or told.sha256 == sha256:
        return None
    noted = brief(told.sha256)
    return f"was changed after the client wrote it: SHA-256 {sha256}, expected {noted}"
