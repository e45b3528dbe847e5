"""Updates and partial means as the values that they represent.

Aggregation, scoring, comparing, inspecting and verifying read the tensors of updates through
``UpdateTensors``. After ``decode``, layout, tensors and pieces of an encoded update are those
of the model that the client trained.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedcli.codecs import Codec, codec_from
from fedcli.errors import CheckpointError
from fedcli.formats.checkpoint import Checkpoint, TensorFile
from fedcli.formats.decoder import Decoder, Moved
from fedcli.formats.masked import is_masked
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.safetensors import Layout

_KINDS = (Kind.UPDATE, Kind.PARTIAL)


class UpdateTensors(Checkpoint):
    """An open update or partial mean, which is hashed as it is read in order."""

    def __init__(
        self, path: Path, kind: Kind = Kind.UPDATE, *, follow: bool = False, most: int | None = None
    ) -> None:
        """Open ``path``. Raises what ``Checkpoint`` does."""
        self._decoder: Decoder | None = None
        super().__init__(path, kind, follow=follow, most=most)
        self._reopen: Callable[[UpdateTensors], None] = _as_it_is
        self.hash_as_read()

    @property
    def is_encoded(self) -> bool:
        """Whether it has to be decoded; a masked update cannot be, and is read as it is."""
        return self.metadata.encoding is not None and not is_masked(self.metadata)

    @property
    def codec(self) -> Codec | None:
        """How it is encoded; None if it is not. Raises ``ValueError`` for an unknown encoding."""
        return codec_from(self.metadata.encoding) if self.is_encoded else None

    def decode(
        self, layout: Layout, roles: Mapping[str, Role], base: TensorFile, seed: int
    ) -> None:
        """Read an encoded update as tensors of this layout, steps from an open base model.

        ``seed`` is that of the run. Raises ``ValueError`` for a file that is not such an update.
        """
        codec, number = self.codec, self.metadata.round or 0
        assert codec is not None
        decoder = Decoder(self, codec, layout, roles, base, (seed, number))
        if not decoder.in_order:
            self.read_through()  # hash it now: its vectors are read by turns
        self._decoder, self.layout = decoder, layout
        self.metadata = replace(self.metadata, roles=roles)
        self._reopen = lambda again: again.decode(layout, roles, base, seed)

    def reopened(self) -> "UpdateTensors":
        """Open its file a second time, decoded like this one.

        Raises what ``Checkpoint`` does, and ``CheckpointError`` for a file that is now another.
        """
        again = UpdateTensors(self.path, self.metadata.kind)
        try:
            self._reopen(again)
        except ValueError as error:
            again.close()
            raise CheckpointError(str(error), path=self.path) from None
        return again

    @property
    def sparse(self) -> bool:
        """Whether only some of the parameters may differ from those of its base model."""
        return self._decoder is not None and self._decoder.sparse

    def moved(self, offset: int, size: int) -> Moved:
        """Return what a sparse update moves among ``size`` bytes of float32, without controls.

        Raises ``CheckpointError`` for a file that cannot be decoded.
        """
        assert self._decoder is not None
        try:
            return self._decoder.moved(offset, size)
        except ValueError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: ValueError) -> CheckpointError:
        return CheckpointError(str(error), path=self.path)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` (bytes) from the decoded tensors, ``offset`` bytes into their layout."""
        if self._decoder is None:
            self.read_stored(buffer, offset)
            return
        try:
            self._decoder.fill(buffer, offset)
        except ValueError as error:
            raise self._damaged(error) from None

    def read_unhashed(self, buffer: memoryview, offset: int) -> None:
        """See ``TensorFile``."""
        if self._decoder is None:
            super().read_unhashed(buffer, offset)
            return
        self.read_into(buffer, offset)

    def close(self) -> None:
        """Close the file, until it is read again."""
        if self._decoder is not None:
            self._decoder.forget()
        super().close()

    def share(self, other: "UpdateTensors") -> None:
        """Keep one copy of equal layouts and roles: thousands of updates may be open at once."""
        if list(self.layout.items()) == list(other.layout.items()):
            self.layout = other.layout
        if self.metadata.roles == other.metadata.roles:
            self.metadata = replace(self.metadata, roles=other.metadata.roles)


def _as_it_is(_: UpdateTensors) -> None:
    """Read a plain update."""


def open_checkpoint(path: Path, kind: Kind, *, most: int | None = None) -> Checkpoint:
    """Open a checkpoint of any kind to read values. Raises what ``Checkpoint`` does."""
    opened = UpdateTensors if kind in _KINDS else Checkpoint
    return opened(path, kind, most=most)


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[TensorFile, Metadata | None]]:
    """Open any safetensors file to read values, following links.

    Yields it with its metadata, None if another program wrote it. Raises ``NotReadyError``,
    ``StorageError`` and ``CheckpointError``.
    """
    with TensorFile(path, follow=True) as file:
        try:
            metadata = None if file.text is None else Metadata.decode(file.text)
        except ValueError as error:
            raise CheckpointError(str(error), path=path) from None
        if metadata is None or metadata.kind not in _KINDS:
            yield file, metadata
            return
    with UpdateTensors(path, metadata.kind, follow=True) as update:
        yield update, update.metadata
