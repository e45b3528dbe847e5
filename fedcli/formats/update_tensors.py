"""Updates and partial means as the values that they stand for.

Aggregation, scoring, comparing, inspecting and verifying read the tensors of updates through
``UpdateTensors``. An encoding of updates is decoded there: layouts, tensors and pieces are of
values, whatever the file holds.
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
    """An open update, or a partial mean; reading all of it in order gives its SHA-256 as well."""

    def __init__(self, path: Path, kind: Kind = Kind.UPDATE, *, follow: bool = False) -> None:
        """Open ``path``. Raises what ``Checkpoint`` does."""
        super().__init__(path, kind, follow=follow)
        self.hash_as_read()

    def share(self, other: "UpdateTensors") -> None:
        """Keep one copy of what both say alike: thousands of updates may be open at once."""
        if list(self.layout.items()) == list(other.layout.items()):
            self.layout = other.layout
        if self.metadata.roles == other.metadata.roles:
            self.metadata = replace(self.metadata, roles=other.metadata.roles)


def open_checkpoint(path: Path, kind: Kind) -> Checkpoint:
    """Open a checkpoint of any kind, to read values. Raises what ``Checkpoint`` does."""
    return UpdateTensors(path, kind) if kind in _KINDS else Checkpoint(path, kind)


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[TensorFile, Metadata | None]]:
    """Open any safetensors file, also behind a link, to read values.

    With it comes what it says of itself, None where it is none of this program. Raises
    ``NotReadyError``, ``StorageError`` and ``CheckpointError``.
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
