"""Inspect and compare checkpoints: their metadata and their tensors."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedcli.aggregation.encoding_figures import EncodingFigures, encoding_figures, run_of
from fedcli.aggregation.encodings import decoded
from fedcli.errors import CheckpointError, NotReadyError
from fedcli.formats.checkpoint import TensorFile
from fedcli.formats.diff import Difference, difference
from fedcli.formats.dtypes import DTYPE_NAMES, Array, is_float
from fedcli.formats.metadata import Kind, Metadata, Role
from fedcli.formats.tensor_stats import Figures, figures
from fedcli.formats.update_tensors import UpdateTensors, open_tensors

_TIED = "tied"  # another name of a tensor that is counted already
_MOST_CLASSES = 100_000  # labels above are not counted


@dataclass(frozen=True)
class Tensor:
    """One tensor; ``role`` is None in a file of another program, and ``tied`` for another name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str | None
    figures: Figures


@dataclass(frozen=True)
class Inspected:
    """An inspected file; ``metadata`` is None in a file of another program.

    ``labels`` are the label counts of a shard, ``norm`` the norm of all parameters together.
    ``encoding`` is that of an encoded update, whose tensors are those of the model that it stands
    for, if it lies in its run beside its base model, and else those of the file.
    """

    path: Path
    sha256: str
    bytes: int
    metadata: Mapping[str, Any] | None
    tensors: tuple[Tensor, ...]
    norm: float | None
    labels: tuple[int, ...] | None
    encoding: EncodingFigures | None = None


@dataclass(frozen=True)
class ComparedTensor:
    """A tensor in both files; ``relative`` is ‖x - y‖ / ‖x‖, None if x is 0 or it is not finite."""

    name: str
    values: int
    different: int
    largest: float | None
    relative: float | None


@dataclass(frozen=True)
class Comparison:
    """A comparison of two files; ``facts`` are differing metadata, by name.

    ``first_only`` and ``second_only`` name tensors in one file only, ``other_shape`` those of
    different shapes, which are not compared. ``cosine`` is the cosine of the angle between all
    common parameters.
    """

    paths: tuple[Path, Path]
    sha256s: tuple[str, str]
    same: bool
    facts: Mapping[str, tuple[Any, Any]]
    first_only: tuple[str, ...]
    second_only: tuple[str, ...]
    other_shape: tuple[str, ...]
    tensors: tuple[ComparedTensor, ...]
    cosine: float | None


def inspect(path: Path) -> Inspected:
    """Read and hash a safetensors file once, and describe its content.

    Raises ``NotReadyError``, ``StorageError`` and ``CheckpointError``.
    """
    with open_tensors(path) as (file, metadata), _decoded(file) as encoding:
        file.hash_as_read()
        labels = _Labels()
        tensors, squares = [], 0.0
        for name, info in file.layout.items():  # in the order of the file, which has no gaps
            is_labels = name == "y" and metadata is not None and metadata.kind == Kind.SHARD
            found = figures(file, name, labels.count if is_labels else None)
            role = _role(name, _metadata(file, metadata))
            dtype = DTYPE_NAMES[info.dtype]
            tensors.append(Tensor(name, dtype, info.shape, role, found))
            if is_float(info.dtype) and role in (None, Role.PARAMETER):
                squares += math.nan if found.norm is None else found.norm**2
        sha256 = file.digest()
    return Inspected(
        path=path,
        sha256=sha256,
        bytes=file.size,
        metadata=None if metadata is None else _facts(metadata),
        tensors=tuple(tensors),
        norm=math.sqrt(squares) if math.isfinite(squares) else None,
        labels=labels.counts(),
        encoding=encoding,
    )


@contextmanager
def _decoded(file: TensorFile) -> Iterator[EncodingFigures | None]:
    """Decode an encoded update, if its base model is in the run that it lies in."""
    if not isinstance(file, UpdateTensors) or not file.is_encoded:
        yield None
        return
    encoding, run = EncodingFigures(_codec(file)), run_of(file.path)
    with ExitStack() as base:
        if run is not None and run.id == file.metadata.run:
            with suppress(NotReadyError):  # without the base model
                base.enter_context(decoded(file, run))
                encoding = encoding_figures(file, run)
        yield encoding


def _codec(file: UpdateTensors) -> str:
    try:
        return str(file.codec)
    except ValueError as error:
        raise CheckpointError(str(error), path=file.path) from None


def compare(one: Path, other: Path) -> Comparison:
    """Compare two safetensors files tensor by tensor.

    Raises ``NotReadyError``, ``StorageError`` and ``CheckpointError``.
    """
    with (
        open_tensors(one) as (first, said),
        open_tensors(other) as (second, also_said),
        _decoded(first),
        _decoded(second),
    ):
        sha256s = first.digest(), second.digest()
        common = [name for name in first.layout if name in second.layout]
        alike = [n for n in common if first.layout[n].shape == second.layout[n].shape]
        found = {name: difference(first, second, name) for name in alike}
        parameters = [
            found[name]
            for name in alike
            if _role(name, _metadata(first, said)) in (None, Role.PARAMETER)
            and is_float(first.layout[name].dtype)
        ]
        return Comparison(
            paths=(one, other),
            sha256s=sha256s,
            same=sha256s[0] == sha256s[1],
            facts=_differing(said, also_said),
            first_only=tuple(name for name in first.layout if name not in second.layout),
            second_only=tuple(name for name in second.layout if name not in first.layout),
            other_shape=tuple(name for name in common if name not in found),
            tensors=tuple(_compared(name, of) for name, of in found.items()),
            cosine=_cosine(parameters),
        )


def _metadata(file: TensorFile, metadata: Metadata | None) -> Metadata | None:
    """Return the metadata with the roles of the tensors as they are read."""
    return file.metadata if isinstance(file, UpdateTensors) else metadata


def _role(name: str, metadata: Metadata | None) -> str | None:
    if metadata is None:
        return None
    return _TIED if name in (metadata.tied or {}) else metadata.roles.get(name, Role.PARAMETER)


def _facts(metadata: Metadata) -> dict[str, Any]:
    """Return the metadata of a file without roles, which are shown with the tensors."""
    facts = {key: v for key, v in metadata.as_json().items() if key not in ("format", "roles")}
    if "training" in facts:
        facts["training"] = dict(sorted(facts["training"].items()))
    return facts


def _differing(said: Metadata | None, also_said: Metadata | None) -> dict[str, tuple[Any, Any]]:
    one, two = ({} if each is None else _flat(_facts(each)) for each in (said, also_said))
    return {k: (one.get(k), two.get(k)) for k in one | two if one.get(k) != two.get(k)}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        nested = value if isinstance(value, Mapping) else None
        flat |= {key: value} if nested is None else {f"{key}.{k}": v for k, v in nested.items()}
    return flat


def _compared(name: str, found: Difference) -> ComparedTensor:
    largest = found.largest if math.isfinite(found.largest) else None
    relative = found.relative
    if relative is not None and not math.isfinite(relative):
        relative = None
    return ComparedTensor(name, found.values, found.different, largest, relative)


def _cosine(found: list[Difference]) -> float | None:
    first, second, product = (
        sum(getattr(each, key) for each in found) for key in ("first", "second", "product")
    )
    length = math.sqrt(first) * math.sqrt(second) if first > 0 and second > 0 else 0.0
    return product / length if 0 < length < math.inf and math.isfinite(product) else None


class _Labels:
    """Counts the labels of a shard."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._strange = False

    def count(self, labels: Array) -> None:
        if labels.dtype != np.int64 or labels.min() < 0 or labels.max() >= _MOST_CLASSES:
            self._strange = True
            return
        more = np.bincount(labels, minlength=len(self._counts))
        more[: len(self._counts)] += self._counts
        self._counts = more

    def counts(self) -> tuple[int, ...] | None:
        """Return the number of examples per class; None without countable labels."""
        return tuple(self._counts.tolist()) if len(self._counts) and not self._strange else None
