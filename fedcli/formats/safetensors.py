"""The header of a safetensors file: the position of each tensor.

Tensors are ordered by item size (largest first), dtype and name, which keeps them aligned. The
header is padded to a multiple of eight bytes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedcli.formats.dtypes import DTYPE_NAMES, DTYPES
from fedcli.storage.strict_json import parse_flat
from fedcli.text import brief

_MOST_DIMENSIONS = 64  # the limit of numpy and torch; multiplying more could take hours
_LARGEST = 2**63  # above any size or offset in a file


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The position of a tensor: ``start`` and ``stop`` in bytes after the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


Layout = dict[str, TensorInfo]


def layout_of(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Layout:
    """Place tensors of the given dtypes and shapes, without gaps."""
    order = sorted(tensors, key=lambda n: (-tensors[n][0].itemsize, DTYPE_NAMES[tensors[n][0]], n))
    return layout_in_order({name: tensors[name] for name in order})


def layout_in_order(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> Layout:
    """Place tensors in the given order, without gaps."""
    layout, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        stop = offset + dtype.itemsize * math.prod(shape)
        layout[name] = TensorInfo(dtype, shape, offset, stop)
        offset = stop
    return layout


def _parse_tensor(name: str, entry: Any) -> TensorInfo:
    try:
        dtype, shape, offsets = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if type(shape) is not list or type(offsets) is not list:
            raise TypeError
        start, stop = offsets
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"tensor {brief(name)} is described wrongly") from None
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"tensor {brief(name)} has {len(shape)} dimensions")
    if not all(type(n) is int and 0 <= n < _LARGEST for n in (*shape, start, stop)):
        raise ValueError(f"tensor {brief(name)} has a shape or offsets that are not whole numbers")
    if stop - start != dtype.itemsize * math.prod(shape):
        raise ValueError(f"tensor {brief(name)} has {stop - start} bytes for shape {shape}")
    return TensorInfo(dtype, tuple(shape), start, stop)


def parse_header(text: bytes, data_size: int) -> tuple[Layout, str | None]:
    """Parse the JSON header of a file with ``data_size`` bytes of tensors.

    Returns the layout and this program's metadata, None without any. Raises ``ValueError`` for
    tensors that overlap, leave gaps, or are described wrongly.
    """
    entries = parse_flat(text)
    if not isinstance(entries, dict):
        raise ValueError("its header is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    infos = {name: _parse_tensor(name, entry) for name, entry in entries.items()}
    layout = dict(sorted(infos.items(), key=lambda item: (item[1].start, item[1].stop)))
    offset = 0
    for name, info in layout.items():
        if info.start != offset:
            raise ValueError(f"tensor {brief(name)} starts at byte {info.start}, expected {offset}")
        offset = info.stop
    if offset != data_size:
        raise ValueError(f"truncated or too long: {data_size} bytes of tensors, expected {offset}")
    own = metadata.get("fedcli") if isinstance(metadata, dict) else None
    return layout, own if isinstance(own, str) else None


def encode_header(layout: Layout, notes: Mapping[str, str]) -> bytes:
    """Return all bytes that precede the tensors in a file; ``notes`` become its metadata."""
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    for name, info in layout.items():
        header[name] = {
            "dtype": DTYPE_NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [info.start, info.stop],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
