"""The one reader of updates: whether each fits its round, and what it holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.advice import train_command
from fedcli.block_files import BlockFile
from fedcli.blocks import Block
from fedcli.checkpoint import Checkpoint, Layout, layout_in_order, layout_of
from fedcli.dtypes import DTYPE_NAMES, Array, as_float, is_float
from fedcli.errors import BadInputError, StorageError, UpdateError
from fedcli.files import read_json
from fedcli.metadata import Kind, Metadata
from fedcli.run import Round, Run
from fedcli.strategies.combination import Contributor

# A process may often open 1024 files. The updates beyond these are opened anew for every block.
_KEPT_OPEN = 256
PARTIAL_DTYPE = np.dtype(np.float64)
NO_DIGEST = "0" * 64  # as long as a digest, until it is known


def _partial_dtype(_: np.dtype[Any]) -> np.dtype[Any]:
    return PARTIAL_DTYPE


@dataclass(frozen=True)
class Base:
    """What the updates of a round were trained from, and have to look like."""

    run: Run
    round: Round
    sha256: str
    layout: Layout
    metadata: Metadata

    @property
    def path(self) -> Path:
        """The global model of the round before."""
        return self.run.round(self.round.number - 1).global_model


def read_base(run: Run, round_: Round) -> Base:
    """Read the header and the digest of the model that a round starts from."""
    with Checkpoint(run.round(round_.number - 1).global_model, Kind.GLOBAL) as model:
        layout = layout_of({name: (i.dtype, i.shape) for name, i in model.layout.items()})
        return Base(run, round_, model.digest(), layout, model.metadata)


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


@contextmanager
def open_updates(
    base: Base,
    wanted: Sequence[tuple[Base, str]],
    partials: Sequence[Path] = (),
    weighting: str = "",
) -> Iterator[list[Update]]:
    """Open updates and check each against its own base, then partial means of the same weighting.

    Nothing but their headers is read. Raises ``UpdateError`` that names the file, the tensor,
    what was expected and what was found.
    """
    updates: list[Update] = []
    now = base.round.number
    try:
        for own, client in wanted:
            updates.append(_open_update(own, client, now))
            _rest_if_many(updates)
        for path in partials:
            updates.append(_open_partial(base, path, weighting))
            _rest_if_many(updates)
        yield updates
    finally:
        for update in updates:
            update.values.close()


def _rest_if_many(updates: Sequence[Update]) -> None:
    if len(updates) > _KEPT_OPEN:
        updates[-1].values.keep_open = False
        updates[-1].values.close()


def _open_update(base: Base, client: str, now: int) -> Update:
    path = base.round.update(client)
    try:
        checkpoint = Checkpoint(path, Kind.UPDATE)
    except BadInputError as error:
        raise UpdateError(error.message, hint=_way_out(base, client, now)) from None
    try:
        wrong = _wrong_metadata(base, client, checkpoint.metadata) or _wrong_tensors(
            base.layout, checkpoint.layout
        )
        if wrong:
            raise UpdateError(f"{path}: {wrong}", hint=_way_out(base, client, now))
        return Update(client, base, checkpoint, {}, now)
    except BaseException:
        checkpoint.close()
        raise


def partial_layout(base: Base) -> Layout:
    """Lay out a partial mean: the tensors of the base model, the floats of them as float64.

    They keep the order of the base model, in which they are read.
    """
    return layout_in_order(
        {
            name: (PARTIAL_DTYPE if is_float(info.dtype) else info.dtype, info.shape)
            for name, info in base.layout.items()
        }
    )


def _open_partial(base: Base, path: Path, weighting: str) -> Update:
    checkpoint = Checkpoint(path, Kind.PARTIAL)
    try:
        found = checkpoint.metadata
        expected = partial_layout(base)
        wrong = (
            _wrong_origin(base, found)
            or _wrong_tensors(expected, checkpoint.layout)
            or (not found.updates and "names no update")
            or (
                found.weighting != weighting
                and f"was made with --weighting {found.weighting}, not {weighting}"
            )
        )
        if wrong:
            raise UpdateError(f"{path}: {wrong}", hint="fedcli aggregate --partial makes it again")
        return Update(path.stem, base, checkpoint, dict(found.updates or {}), base.round.number)
    except BaseException:
        checkpoint.close()
        raise


def _way_out(base: Base, client: str, now: int) -> str:
    """Return what can be done about an update that round ``now`` cannot use."""
    again = f"{train_command(base.run, [client], base.round.number)} --force"
    force = " --force" if base.run.round(now).global_model.exists() else ""
    without = base.run.command(f"aggregate --round {now} --exclude {client}{force}")
    return f"train it again: {again}, or leave it out: {without}"


def _wrong_origin(base: Base, found: Metadata) -> str | None:
    for what, expected, value in (
        ("belongs to run", base.run.id, found.run),
        ("belongs to round", base.round.number, found.round),
        (f"was trained from another base model than {base.path}: SHA-256", base.sha256, found.base),
        ("has tensor roles", dict(base.metadata.roles), dict(found.roles)),
    ):
        if value != expected:
            return f"{what} {value}, expected {expected}"
    if found.num_examples is None or found.num_examples < 1:
        return f"has num_examples {found.num_examples}, expected 1 or more"
    return None


def _wrong_metadata(base: Base, client: str, found: Metadata) -> str | None:
    if found.client != client:
        return f"is of client {found.client}, expected {client}"
    return _wrong_origin(base, found)


def _wrong_tensors(expected: Layout, found: Layout) -> str | None:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"tensor {name!r} is missing"
        if name not in expected:
            return f"has a tensor {name!r} that the base model does not have"
        a, b = expected[name], found[name]
        if a.shape != b.shape:
            return f"tensor {name!r}: expected shape {list(a.shape)}, found {list(b.shape)}"
        if a.dtype != b.dtype:
            dtypes = DTYPE_NAMES[a.dtype], DTYPE_NAMES[b.dtype]
            return f"tensor {name!r}: expected dtype {dtypes[0]}, found {dtypes[1]}"
    return None


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


def not_finite(base: Base, updates: Iterable[Update], block: Block, result: Array) -> UpdateError:
    """Tell why the result for a block is not finite: which update's values are not, or else where
    they are finite and the result overflows.
    """
    return bad_values(updates, block) or UpdateError(
        f"{base.round.path}: the result overflows in tensor {_overflown(block, result)!r}"
    )


def too_far(update: Update, block: Block, squares: Array) -> UpdateError:
    """Tell why the squared differences of an update to its base model are not finite."""
    return bad_values([update], block) or UpdateError(
        f"{update.path}: tensor {_overflown(block, squares)!r}: is so far from the base model"
        " that its norm overflows",
        hint=update.way_out(),
    )


def bad_values(updates: Iterable[Update], block: Block) -> UpdateError | None:
    """Find the first update, and its first tensor of a block, with values that are not finite."""
    for update in updates:
        with Checkpoint(update.path) as checkpoint:
            for name in (part.name for part in block.parts):
                values = as_float(checkpoint.tensor(name))
                count = values.size - np.count_nonzero(np.isfinite(values))
                if count:
                    return UpdateError(
                        f"{update.path}: tensor {name!r}: {count} of {values.size} values are NaN"
                        " or infinite",
                        hint=None if update.members else update.way_out(),
                    )
    return None


def _overflown(block: Block, values: Array) -> str:
    names = (part.name for part in block.parts if not np.isfinite(values[part.place]).all())
    return next(names, block.parts[0].name)
