"""The one reader of updates: whether each fits its round, and what it holds."""

import bisect
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcli.advice import train_command
from fedcli.blocks import BLOCK_BYTES, Block
from fedcli.checkpoint import Checkpoint, Layout, TensorInfo, layout_of
from fedcli.dtypes import DTYPE_NAMES, Array, as_float
from fedcli.errors import BadInputError, StorageError, UpdateError
from fedcli.files import InputFile, read_json
from fedcli.metadata import Kind, Metadata
from fedcli.run import Round, Run

# A process may often open 1024 files. The updates beyond these are opened anew for every block.
_KEPT_OPEN = 256


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
    """One client's update, checked against its base; it is hashed while it is read."""

    def __init__(self, client: str, checkpoint: Checkpoint, layout: Layout) -> None:
        self.client = client
        self.path = checkpoint.path
        self.bytes = checkpoint.size
        self.num_examples = checkpoint.metadata.num_examples or 0
        self.keep_open = True
        self._file = checkpoint.file
        self._data_start = checkpoint.data_start
        self._hash = hashlib.sha256(checkpoint.header)
        self._parts: list[tuple[TensorInfo, int]] = []
        if list(checkpoint.layout.items()) != list(layout.items()):
            # Written by another tool, in another order: hashed now, then read here and there.
            self._parts = [(info, checkpoint.layout[name].start) for name, info in layout.items()]
            self._hash = _hash_of(self._file)

    def read(self, block: Block, buffer: memoryview) -> Array:
        """Read a block of the base's layout into ``buffer``; the blocks are to come in order."""
        data = buffer[: block.stop - block.start]
        if self._parts:
            self._gather(block, data)
        else:
            self._file.read_into(data, self._data_start + block.start)
            self._hash.update(data)
        if not self.keep_open:
            self._file.rest()
        return np.frombuffer(data, block.dtype)

    def _gather(self, block: Block, data: memoryview) -> None:
        first = bisect.bisect_right(self._parts, block.start, key=lambda part: part[0].stop)
        for info, own_start in self._parts[first:]:
            if info.start >= block.stop:
                break
            start, stop = max(info.start, block.start), min(info.stop, block.stop)
            piece = data[start - block.start : stop - block.start]
            self._file.read_into(piece, self._data_start + own_start + start - info.start)

    def digest(self) -> str:
        """Return the SHA-256 of the file, hex, once every block has been read."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.rest()


def _hash_of(file: InputFile) -> "hashlib._Hash":
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK_BYTES))
    for offset in range(0, file.size, BLOCK_BYTES):
        piece = buffer[: file.size - offset]
        file.read_into(piece, offset)
        sha256.update(piece)
    return sha256


@contextmanager
def open_updates(base: Base, clients: Sequence[str]) -> Iterator[list[Update]]:
    """Open the updates of these clients and check each against its base, before any is read.

    Raises ``UpdateError`` that names the file, the tensor, what was expected and what was found.
    """
    updates: list[Update] = []
    try:
        for client in clients:
            updates.append(_open_update(base, client))
            if len(updates) > _KEPT_OPEN:
                updates[-1].keep_open = False
                updates[-1].close()
        yield updates
    finally:
        for update in updates:
            update.close()


def _open_update(base: Base, client: str) -> Update:
    path = base.round.update(client)
    try:
        checkpoint = Checkpoint(path, Kind.UPDATE)
    except BadInputError as error:
        raise UpdateError(error.message, hint=way_out(base, client)) from None
    try:
        wrong = _wrong_metadata(base, client, checkpoint.metadata) or _wrong_tensors(
            base.layout, checkpoint.layout
        )
        if wrong:
            raise UpdateError(f"{path}: {wrong}", hint=way_out(base, client))
        return Update(client, checkpoint, base.layout)
    except BaseException:
        checkpoint.close()
        raise


def way_out(base: Base, client: str) -> str:
    """Return what can be done about an update that cannot be used."""
    number = base.round.number
    again = f"{train_command(base.run, [client], number)} --force"
    without = base.run.command(f"aggregate --round {number} --exclude {client}")
    return f"train it again: {again}, or leave it out: {without}"


def _wrong_metadata(base: Base, client: str, found: Metadata) -> str | None:
    for what, expected, value in (
        ("belongs to run", base.run.id, found.run),
        ("belongs to round", base.round.number, found.round),
        ("is of client", client, found.client),
        (f"was trained from another base model than {base.path}: SHA-256", base.sha256, found.base),
        ("has tensor roles", dict(base.metadata.roles), dict(found.roles)),
    ):
        if value != expected:
            return f"{what} {value}, expected {expected}"
    if found.num_examples is None or found.num_examples < 1:
        return f"has num_examples {found.num_examples}, expected 1 or more"
    return None


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


def check_digest(base: Base, update: Update) -> None:
    """Compare what was read with the digest that the client noted when it wrote the update.

    Raises ``UpdateError`` when they differ. Telemetry that is missing or broken says nothing.
    """
    try:
        noted = read_json(base.round.telemetry(update.client)).get("sha256")
    except (FileNotFoundError, ValueError, StorageError):
        return
    if isinstance(noted, str) and noted != update.digest():
        raise UpdateError(
            f"{update.path}: was changed after the client wrote it: SHA-256 {update.digest()},"
            f" expected {noted}",
            hint=way_out(base, update.client),
        )


def not_finite(base: Base, updates: Iterable[Update], block: Block) -> UpdateError:
    """Find out which update made the sum of a block not finite."""
    names = [n for n, i in base.layout.items() if i.start < block.stop and i.stop > block.start]
    for update in updates:
        with Checkpoint(update.path) as checkpoint:
            for name in names:
                values = as_float(checkpoint.tensor(name))
                count = values.size - np.count_nonzero(np.isfinite(values))
                if count:
                    return UpdateError(
                        f"{update.path}: tensor {name!r}: {count} of {values.size} values are NaN"
                        " or infinite",
                        hint=way_out(base, update.client),
                    )
    return UpdateError(f"{base.round.path}: the mean of tensor {names[0]!r} overflows")
