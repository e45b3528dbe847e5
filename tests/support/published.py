"""Everything that a reader of a run directory sees, field by field."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedcli.formats.checkpoint import Checkpoint

Place = tuple[str, str]  # a file, and a field of it


def published(root: Path) -> dict[Place, Any]:
    """Return every value in the files of a directory, except in ``data/``, by its place.

    Keys of JSON objects are joined by dots. Tensors are their bytes.
    """
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    found: dict[Place, Any] = {}
    for path in files:
        name = str(path.relative_to(root))
        if not name.startswith("data/"):
            found |= {(name, field): value for field, value in _fields(path)}
    return found


def _fields(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix != ".safetensors":
        yield from _flat("", json.loads(path.read_bytes()))
        return
    with Checkpoint(path) as checkpoint:
        yield from _flat("", checkpoint.metadata.as_json())
        for name, tensor in checkpoint.tensors().items():
            yield f"tensor {name}", (str(tensor.dtype), tensor.shape, tensor.tobytes())


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(entries, dict):
        yield place, value
        return
    yield f"{place}.", sorted(map(str, entries))
    for key, one in entries.items():
        who = one.get("client") if isinstance(one, dict) else None
        yield from _flat(f"{place}.{key if who is None else who}".lstrip("."), one)


def differences(one: Path, other: Path) -> set[Place]:
    """Return the places at which two directories do not show the same."""
    first, second = published(one), published(other)
    return {
        place
        for place in first.keys() | second.keys()
        if place not in first or place not in second or first[place] != second[place]
    }
