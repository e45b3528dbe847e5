"""Updates and partial means as the values that they represent.

Aggregation, scoring, comparing, inspecting and verifying read the tensors of updates through
``UpdateTensors``. Any encoding of updates is to be decoded there, so that layouts, tensors and
pieces always describe values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedcli.errors import CheckpointError
from fedcli.formats.checkpoint import Checkpoint, TensorFile
from fedcli.formats.metadata import Kind, Metadata

_KINDS = (Kind.UPDATE, Kind.PARTIAL)


class UpdateTensors(Checkpoint):
    """An open update or partial mean, which is hashed as it is read in order."""

    def __init__(
        self, path: Path, kind: Kind = Kind.UPDATE, *, follow: bool = False, most: int | None = None
    ) -> None:
        """Open ``path``. Raises what ``Checkpoint`` does."""
        super().__init__(path, kind, follow=follow, most=most)
        self.hash_as_read()

    def share(self, other: "UpdateTensors") -> None:
        """Keep one copy of equal layouts and roles: thousands of updates may be open at once."""
        if list(self.layout.items()) == list(other.layout.items()):
            self.layout = other.layout
        if self.metadata.roles == other.metadata.roles:
            self.metadata = replace(self.metadata, roles=other.metadata.roles)


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
