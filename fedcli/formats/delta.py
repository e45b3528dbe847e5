"""Deltas: what makes a round's global model out of the one before, as an encoded step.

A delta has the metadata of its model, so that a model that is rebuilt has the bytes of the one that
was written. The delta of round 0 has no tensors: it says which model the run starts from.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedcli.codecs import Codec, codec_from
from fedcli.errors import BadInputError, CheckpointError
from fedcli.formats.checkpoint import Checkpoint, CheckpointWriter, create
from fedcli.formats.decoder import Decoder
from fedcli.formats.dtypes import Array
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.safetensors import Layout, layout_of

HELD = "encoded/held"
_PIECE = 256 * 1024  # bytes decoded at a time


def delta_metadata(model: Metadata, codec: Codec | None, result: str) -> Metadata:
    """Describe the delta that leads to a model, whose file has the SHA-256 ``result``."""
    encoding = None if codec is None else codec.as_json()
    return replace(model, kind=Kind.DELTA, roles={}, tied=None, encoding=encoding, result=result)


def held_tensors(whole: Layout, held: Mapping[str, object]) -> Array:
    """Return which tensors of a model have changes in a delta: 1 or 0 each, as uint8."""
    return np.array([name in held for name in whole], np.uint8)


def rebuild(delta: Checkpoint, base: Checkpoint, path: Path) -> str:
    """Write the model that a delta makes of its base model, and return its SHA-256, hex.

    Raises ``BadInputError`` for another base model, for a delta that cannot be decoded, and if
    another model than the one that it names comes out; then nothing is written.
    """
    found, sha256 = delta.metadata, base.digest()
    if found.base != sha256:
        raise BadInputError(
            f"leads on from a model with SHA-256 {found.base}, not from {base.path}",
            hint="take both files from the same run",
            path=delta.path,
        )
    roles, tied = base.metadata.roles, base.metadata.tied
    model = replace(found, kind=Kind.GLOBAL, roles=roles, tied=tied, encoding=None, result=None)
    with create(path, base.layout, model, replace=False) as writer:
        _write(delta, base, writer)
        check_result(delta, writer.finish())
        return writer.sha256


def check_result(delta: Checkpoint, sha256: str) -> None:
    """Raise ``BadInputError`` if a delta names another model than that with this SHA-256."""
    if delta.metadata.result != sha256:
        raise BadInputError(
            f"names a model with SHA-256 {delta.metadata.result}, but {sha256} came out",
            hint="the file, or the model before it, was changed; take both from the coordinator",
            path=delta.path,
        )


def _write(delta: Checkpoint, base: Checkpoint, writer: CheckpointWriter) -> None:
    try:
        layout, decoder = _opened(delta, base)
        for name, info in base.layout.items():
            first = (base.metadata.tied or {}).get(name, name)
            _copy(decoder if first in layout else None, layout, first, base, writer, info.start)
    except ValueError as error:
        raise CheckpointError(str(error), path=delta.path) from None


def _opened(delta: Checkpoint, base: Checkpoint) -> tuple[Layout, Decoder]:
    codec, number = codec_from(delta.metadata.encoding), delta.metadata.round or 0
    if codec is None:
        raise ValueError("has no encoding, and cannot lead from one model to the next")
    layout = _layout(delta, base)
    seed = (delta.metadata.seed or 0, number)
    roles = base.metadata.roles
    return layout, Decoder(delta, codec, layout, roles, base, seed, also=(HELD,))


def _layout(delta: Checkpoint, base: Checkpoint) -> Layout:
    """Return the layout of the tensors that a delta changes."""
    info = delta.layout.get(HELD)
    if info is None or info.dtype != np.uint8 or info.shape != (len(base.layout),):
        raise ValueError(f"tensor {HELD!r}: expected {len(base.layout)} numbers of uint8")
    held, tied = delta.stored(HELD), base.metadata.tied or {}
    chosen = [name for name, one in zip(base.layout, held, strict=True) if one]
    if held.max(initial=0) > 1 or not tied.keys().isdisjoint(chosen):
        raise ValueError(f"tensor {HELD!r}: expected 0 or 1, and 0 for second names of tensors")
    return layout_of({n: (base.layout[n].dtype, base.layout[n].shape) for n in chosen})


def _copy(
    decoder: Decoder | None,
    layout: Layout,
    name: str,
    base: Checkpoint,
    writer: CheckpointWriter,
    start: int,
) -> None:
    """Write a tensor of the model: decoded, or as in the base model."""
    source = base.layout[name] if decoder is None else layout[name]
    size = math.prod(source.shape) * source.dtype.itemsize
    buffer = np.empty(min(size, _PIECE // 8 * 8), np.uint8)
    for first in range(0, size, len(buffer) or 1):
        piece = buffer[: size - first]
        if decoder is None:
            base.read_into(piece.data, source.start + first)
        else:
            decoder.fill(piece.data, source.start + first)
        writer.write(piece, start + first)
