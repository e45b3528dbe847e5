"""The one reader of updates: whether each fits its round, and what it holds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.advice import train_command
from fedcli.bases import PARTIAL_DTYPE, Base, Bases
from fedcli.block_files import BlockFile
from fedcli.checkpoint import Checkpoint, Layout
from fedcli.dtypes import DTYPE_NAMES
from fedcli.errors import BadInputError, StorageError, UpdateError
from fedcli.files import read_json
from fedcli.metadata import Kind, Metadata
from fedcli.run import Round, Run
from fedcli.strategies.combination import Contributor

# A process may often open 1024 files. The updates beyond these are opened anew for every block.
_KEPT_OPEN = 256
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
        self.training = checkpoint.metadata.training or {}
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
) -> Iterator[Opened]:
    """Open updates and check each against its own base, then partial means of the same weighting.

    ``accepted`` are clients with the rounds of their updates. Nothing but headers is read. Raises
    ``UpdateError`` that names the file, the tensor, what was expected and what was found.
    """
    now = round_.number
    bases = Bases(run, sorted({now, *(number for number, _ in accepted)}))
    updates: list[Update] = []
    try:
        for number, client in accepted:
            updates.append(_open_update(bases, number, client, now))
            _rest_if_many(updates)
        for path in partials:
            updates.append(_open_partial(bases, path, weighting, now))
            _rest_if_many(updates)
        yield Opened(bases.of(now), updates)
    finally:
        for update in updates:
            update.values.close()


def _rest_if_many(updates: Sequence[Update]) -> None:
    if len(updates) > _KEPT_OPEN:
        updates[-1].values.keep_open = False
        updates[-1].values.close()


@contextmanager
def _closed_on_error(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except BaseException:
        checkpoint.close()
        raise


def _open_update(bases: Bases, number: int, client: str, now: int) -> Update:
    base = bases.of(number)
    path = base.round.update(client)
    try:
        checkpoint = Checkpoint(path, Kind.UPDATE)
    except BadInputError as error:
        raise UpdateError(error.message, hint=_way_out(base, client, now)) from None
    with _closed_on_error(checkpoint):
        try:
            base = _fitting_update(bases, number, client, checkpoint)
        except ValueError as error:
            raise UpdateError(f"{path}: {error}", hint=_way_out(base, client, now)) from None
        return Update(client, base, checkpoint, {}, now)


def _fitting_update(bases: Bases, number: int, client: str, checkpoint: Checkpoint) -> Base:
    """Return the base of an update that fits it; raise ``ValueError`` that says what is wrong."""
    found = checkpoint.metadata
    if found.client != client:
        raise ValueError(f"is of client {found.client}, expected {client}")
    _check_origin(bases.of(number), found)
    base = bases.agreed(number, f"the update of client {client}", found)
    _check_tensors(base, base.layout, checkpoint)
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
    _check_tensors(base, base.partial_layout(), checkpoint)
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


def _check_tensors(base: Base, expected: Layout, checkpoint: Checkpoint) -> None:
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


def check_digest(update: Update) -> None:
    """Compare what was read with the digest that the client noted when it wrote the update.

    Raises ``UpdateError`` when they differ. Telemetry that is missing or broken says nothing.
    """
    try:
        noted = read_json(update.base.round.telemetry(update.name)).get("sha256")
    except (FileNotFoundError, ValueError, StorageError):
        return
    if isinstance(noted, str) and noted != update.digest():
        raise UpdateError(
            f"{update.path}: was changed after the client wrote it: SHA-256 {update.digest()},"
            f" expected {noted}",
            hint=update.way_out(),
        )
