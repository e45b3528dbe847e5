"""The updates of a round: check that each fits, and describe it to a rule."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import PARTIAL_DTYPE, Base
from fedcli.aggregation.block_files import BlockFile
from fedcli.aggregation.blocks import Block, Reader
from fedcli.aggregation.remedies import Mend, Remedies
from fedcli.codecs import CHUNK
from fedcli.errors import BadInputError, CheckpointError, StorageError, UpdateError
from fedcli.formats.checkpoint import Checkpoint
from fedcli.formats.decoder import Moved
from fedcli.formats.dtypes import DTYPE_NAMES, Array, as_float
from fedcli.formats.metadata import Kind
from fedcli.formats.safetensors import Layout
from fedcli.formats.telemetry import Telemetry
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.security.signatures import signature_fault
from fedcli.strategies.decision import Contributor
from fedcli.system import keep_freed_memory
from fedcli.text import brief

NO_DIGEST = "0" * 64  # reserves the length of a digest that is not known yet
Seen = Array | Moved  # a block of an update: its values, or what it moves


def _partial_dtype(_: np.dtype[Any]) -> np.dtype[Any]:
    return PARTIAL_DTYPE


class Update:
    """An update that was checked against its base, or a partial mean of several.

    ``members`` maps the clients of a partial mean to their updates' SHA-256; empty for an update.
    ``staleness`` is the number of rounds since its own. ``values_bytes`` is the size of its values,
    which says nothing about them; None if they are encoded.
    """

    def __init__(self, name: str, base: Base, tensors: UpdateTensors, now: int) -> None:
        self.name = name
        self.base = base
        self.path = tensors.path
        self.codec = tensors.codec
        self._tensors = tensors
        self._sha256: str | None = None
        self.bytes = tensors.size
        self.values_bytes = None if tensors.is_encoded else tensors.size - tensors.data_start
        self.kind = tensors.metadata.kind
        self.members = (tensors.metadata.updates or {}) if self.kind == Kind.PARTIAL else {}
        self.num_examples = tensors.metadata.num_examples
        self.training = tensors.metadata.training
        self.staleness = now - base.round.number
        self.values = UpdateValues(
            tensors, base, self.damaged, floats=_partial_dtype if self.members else None
        )

    def reopened(self) -> UpdateTensors:
        """Open its file a second time, to read single tensors."""
        return self._tensors.reopened()

    @property
    def contributor(self) -> Contributor:
        """What a rule may know about it."""
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
        if self._sha256 is None:
            is_read = not self._tensors.in_order
            found = self.values.digest()
            if not is_read:
                return found
            self._sha256 = found
        return self._sha256

    @property
    def remedies(self) -> Remedies:
        """What to do when it cannot be used."""
        return Remedies(self.base, self.name, self.base.round.number + self.staleness)

    def damaged(self, error: CheckpointError) -> UpdateError:
        """Return the error of an update whose encoded values cannot be read."""
        return self.error(error.about(self.path), Remedies.copy)

    def error(self, what: str, mend: Mend | None = None) -> UpdateError:
        """Return the error of an update that cannot be used.

        ``what`` says why; ``mend`` what to do, by default to train it again.
        """
        if self.members:
            return UpdateError(what, path=self.path)
        return self.remedies.error(what, mend)


class UpdateValues(BlockFile):
    """The values of an update, which was trained from the model before round ``number``."""

    def __init__(
        self,
        tensors: UpdateTensors,
        base: Base,
        damaged: Callable[[CheckpointError], UpdateError],
        *,
        floats: Callable[[np.dtype[Any]], np.dtype[Any]] | None,
    ) -> None:
        """``damaged`` makes the error of an encoded update that cannot be decoded."""
        super().__init__(tensors, base.layout, floats=floats)
        self.number = base.round.number
        self._update = tensors
        self._damaged = damaged

    def read(self, block: Block, into: Array) -> None:
        """See ``BlockFile``."""
        try:
            super().read(block, into)
        except CheckpointError as error:
            raise self._damaged(error) from None

    def seen(self, block: Block, reader: Reader) -> Seen:
        """Read a block: its values, valid until the next call, or what a sparse update moves."""
        if self._update.sparse and block.dtype == np.float32 and not block.controls:
            return reader.take(self, self._moved)
        return as_float(reader.read(self))

    def _moved(self, block: Block) -> Moved:
        try:
            found = self._update.moved(block.start, block.stop - block.start)
        except CheckpointError as error:
            raise self._damaged(error) from None
        self._close_unless_kept()
        return found


def chunk_of(updates: Sequence[Update]) -> int | None:
    """Return how many parameters an update decodes at a time, if there is such an update."""
    if all(update.codec is None for update in updates):
        return None
    keep_freed_memory()  # decoding makes many arrays
    return CHUNK


def check_tensors(base: Base, expected: Layout, checkpoint: Checkpoint) -> None:
    """Raise ``ValueError`` for the first tensor that is not as expected, and for wrong roles."""
    found = checkpoint.layout
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"tensor {name!r} is missing")
        if name in base.whole and name not in expected:
            raise ValueError(f"has a tensor {name!r} but says that it withholds it")
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
    tied = checkpoint.metadata.tied or {}
    if dict(tied) != dict(base.tied):
        raise ValueError(f"has tied tensors {dict(tied)}, expected {dict(base.tied)}")


def check_sources(updates: Sequence[Update]) -> None:
    """Check that updates, which were read, are what their clients wrote.

    Each must match the digest in its telemetry or, in a run with members, its signature. Missing
    or broken telemetry is ignored. Raises one ``UpdateError`` for all that fail.
    """
    found = (source_error(update, update.digest()) for update in updates)
    if errors := [error for error in found if error is not None]:
        raise UpdateError.together(errors)


def source_error(update: Update, sha256: str) -> UpdateError | None:
    """Return why an update of this SHA-256 is not what its client wrote, or None."""
    base = update.base
    if base.run.info.members:  # anybody can write telemetry, only the member can sign
        fault = signature_fault(base.run, base.round, update.name, sha256)
        return update.error(fault, Remedies.sign) if fault else None
    try:
        told = Telemetry.read(base.round.telemetry(update.name))
    except (BadInputError, StorageError):
        return None
    if told is None or told.sha256 == sha256:
        return None
    noted = brief(told.sha256)
    return update.error(
        f"was changed after the client wrote it: SHA-256 {sha256}, expected {noted}", Remedies.copy
    )
