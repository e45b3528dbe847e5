"""A client's examples in one file: ``x`` (uint8 N,C,H,W or float32 N,…) and ``y`` (int64 N)."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcli.errors import CheckpointError
from fedcli.formats.checkpoint import Checkpoint, create
from fedcli.formats.dtypes import Array
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.partition import ShardFile
from fedcli.formats.safetensors import layout_of
from fedcli.progress import Progress
from fedcli.run import Run

_EXAMPLES = (np.dtype(np.uint8), np.dtype(np.float32))
_CHUNK_BYTES = 8_000_000  # decoded at a time


@dataclass(frozen=True)
class Examples:
    """Examples in memory: ``x`` uint8 (N, C, H, W) or float32 (N, …), ``y`` int64 (N).

    ``skipped`` are files that were left out because they cannot be decoded.
    """

    x: Array
    y: NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)


def read_shard(path: Path, run: Run | None = None) -> Examples:
    """Read a shard, and check that it belongs to ``run`` if that is given.

    Raises ``NotReadyError``, ``StorageError``, and ``CheckpointError`` for tensors that are not
    labelled examples or do not fit the run.
    """
    with Checkpoint(path, Kind.SHARD) as shard:
        try:
            _check_layout(shard)
            if run is not None:
                _check_origin(shard, run)
            examples = Examples(shard.tensor("x"), shard.tensor("y"))
            shard.file.check_unchanged()
            _check_labels(examples, run)
        except ValueError as error:
            raise CheckpointError(str(error), path=path) from None
    return examples


def _check_layout(shard: Checkpoint) -> None:
    if sorted(shard.layout) != ["x", "y"]:
        names = ", ".join(shard.layout) or "none"
        raise ValueError(f"expected the tensors x and y, found {names}")
    x, y = shard.layout["x"], shard.layout["y"]
    if y.dtype != np.int64 or len(y.shape) != 1 or x.shape[:1] != y.shape:
        raise ValueError(f"x {list(x.shape)} and y {list(y.shape)} {y.dtype} do not match")
    if x.dtype not in _EXAMPLES:
        raise ValueError(f"x is {x.dtype}, expected uint8 or float32")
    if shard.metadata.num_examples not in (None, y.shape[0]):
        raise ValueError(f"has {y.shape[0]} examples but says {shard.metadata.num_examples}")


def _check_origin(shard: Checkpoint, run: Run) -> None:
    x, data = shard.layout["x"], run.info.dataset
    for what, expected, found in (
        ("belongs to run", run.id, shard.metadata.run),
        ("has examples of shape", list(data.shape), list(x.shape[1:])),
        ("has examples of dtype", data.dtype, str(x.dtype)),
    ):
        if found != expected:
            raise ValueError(f"{what} {found}, expected {expected}")


def _check_labels(examples: Examples, run: Run | None) -> None:
    least, most = examples.y.min(initial=0), examples.y.max(initial=0)
    if least < 0 or (run is not None and most >= len(run.info.dataset.classes)):
        raise ValueError(f"has labels from {least} to {most}, which are not classes of the run")


def chunks(indices: NDArray[np.int64], bytes_each: int) -> list[NDArray[np.int64]]:
    """Split indices into chunks whose examples are small enough to decode at once."""
    step = max(1, _CHUNK_BYTES // bytes_each)
    return [indices[start : start + step] for start in range(0, len(indices), step)]


@dataclass(frozen=True)
class ShardFormat:
    """The properties that all shards of a run share."""

    run: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write_shard(
    path: Path,
    client: str | None,
    labels: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], Array],
    form: ShardFormat,
    progress: Progress,
) -> ShardFile:
    """Write the examples that ``read`` decodes, chunk by chunk, with one chunk in memory.

    Raises ``StorageError``, and what ``read`` raises.
    """
    layout = layout_of(
        {"x": (form.dtype, (len(labels), *form.shape)), "y": (np.dtype("<i8"), labels.shape)}
    )
    metadata = Metadata(Kind.SHARD, form.run, client=client, num_examples=len(labels))
    bytes_each = max(1, form.dtype.itemsize * int(np.prod(form.shape)))
    content = hashlib.sha256()
    with create(path, layout, metadata) as writer:

        def write(values: Array, offset: int) -> None:
            values = np.ascontiguousarray(values)
            writer.write(values, offset)
            content.update(values.data)

        write(labels.astype("<i8"), layout["y"].start)
        for chunk in chunks(np.arange(len(labels)), bytes_each):
            write(read(chunk), layout["x"].start + int(chunk[0]) * bytes_each)
            progress.advance(len(chunk))
        return ShardFile(writer.finish(), len(labels), writer.size, content.hexdigest())
