"""The JSON files of a run, as typed records: read once, checked, and named when they are broken.

The formats are specified in ``docs/run-directory.md``. Keys that are not known are passed over.
"""

import dataclasses
import math
import types
from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fedcli.errors import BadInputError
from fedcli.files import read_json

FORMAT = 1
Record = TypeVar("Record")


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told apart; ``accuracy`` and ``f1`` are None without examples."""

    name: str = field(metadata={"key": "class"})
    examples: int
    accuracy: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Score:
    """One entry of ``evaluation.json``: one model on one set of examples.

    ``accuracy`` lies in [0, 1]; ``confusion`` is K×K, rows the true class, columns the predicted.
    """

    model: str
    data: str
    examples: int
    accuracy: float
    client: str | None = None
    data_client: str | None = None
    classes: tuple[str, ...] | None = None
    sha256: str | None = None
    loss: float | None = None
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    auc: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no evaluation can give (``ValueError``)."""
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy {self.accuracy}: expected 0 to 1")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion: expected as many columns as rows")


@dataclass(frozen=True)
class Evaluation:
    """``rounds/NNNN/evaluation.json``."""

    results: tuple[Score, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class Epoch:
    """One local epoch of one client."""

    epoch: int
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Telemetry:
    """``rounds/NNNN/updates/<id>.json``: how the training of one client went."""

    sha256: str
    num_examples: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    device: str | None = None
    peak_memory_bytes: int | None = None
    epochs: tuple[Epoch, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True)
class Accepted:
    """An update that went into the global model."""

    client: str
    sha256: str | None = None
    num_examples: int | None = None
    weight: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Rejected:
    """An update that did not, and why."""

    client: str
    reason: str = ""


@dataclass(frozen=True)
class Manifest:
    """``rounds/NNNN/aggregate.json``."""

    accepted: tuple[Accepted, ...]
    missing: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    strategy: str | None = None
    weighting: str | None = None
    global_sha256: str | None = field(default=None, metadata={"key": "global"})
    seconds: float | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Shard:
    """One file of examples, as ``data/partition.json`` lists it."""

    sha256: str | None = None
    examples: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Partition:
    """``data/partition.json``."""

    classes: tuple[str, ...]
    label_counts: dict[str, tuple[int, ...]]
    scheme: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    test_label_counts: tuple[int, ...] = ()
    shards: dict[str, Shard] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse counts that are not one a class (``ValueError``)."""
        for client, counts in self.label_counts.items():
            if len(counts) != len(self.classes):
                raise ValueError(
                    f"label_counts of client {client}: {len(counts)} counts"
                    f" for {len(self.classes)} classes"
                )


def read(record: type[Record], path: Path) -> Record | None:
    """Read one file; None when it is not there.

    Raises ``BadInputError`` that names the file when it is not JSON, when a key is missing or of
    another type, or when it is of a newer format; ``StorageError`` when it cannot be read.
    """
    try:
        values = read_json(path)
        found = values.get("format", FORMAT)
        if type(found) is not int or found > FORMAT:
            raise ValueError(f"format {found!r}; this fedcli reads format {FORMAT}")
        decoded: Record = _decode_record(record, values, "")
        return decoded
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            f"{path}: {error}", hint="delete the file and repeat the step that wrote it"
        ) from None


@cache
def _fields(record: type[Any]) -> tuple[tuple[str, str, Any, bool], ...]:
    """Return the name, the JSON key, the type and whether it is required, of every field."""
    hints = get_type_hints(record)
    return tuple(
        (
            f.name,
            f.metadata.get("key", f.name),
            hints[f.name],
            f.default is MISSING and f.default_factory is MISSING,
        )
        for f in dataclasses.fields(record)
    )


def _decode(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is types.UnionType:
        hint = get_args(hint)[0]
        if value is None or (hint is float and isinstance(value, float) and math.isnan(value)):
            return None
    if hint is Any:
        return value
    if get_origin(hint) is tuple:
        items = _expect(list, value, where)
        item = get_args(hint)[0]
        if item in (int, str) and set(map(type, items)) <= {item}:
            return tuple(items)  # a confusion matrix has thousands of these
        return tuple(_decode(item, v, f"{where}[{i}]") for i, v in enumerate(items))
    if get_origin(hint) is dict:
        item = get_args(hint)[1]
        pairs = _expect(dict, value, where).items()
        return {key: _decode(item, v, f"{where}.{key}") for key, v in pairs}
    if dataclasses.is_dataclass(hint):
        return _decode_record(hint, _expect(dict, value, where), where)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not a finite number")
    return _expect(hint, value, where)


def _expect(kind: type[Any], value: Any, where: str) -> Any:
    if type(value) is not kind:
        raise ValueError(
            f"{where or 'the file'}: expected {kind.__name__}, found {type(value).__name__}"
        )
    return value


def _decode_record(record: Any, values: dict[str, Any], where: str) -> Any:
    prefix = f"{where}." if where else ""
    arguments = {}
    for name, key, hint, required in _fields(record):
        if key in values:
            arguments[name] = _decode(hint, values[key], prefix + key)
        elif required:
            raise ValueError(f"{where or 'the file'}: has no {key!r}")
    return record(**arguments)
