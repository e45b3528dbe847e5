"""What a report reads of the JSON files of a run, besides ``aggregate.json``.

The formats are specified in ``docs/run-directory.md``.
"""

from dataclasses import dataclass, field
from typing import Any

from fedcli.formats.records import ClientId, Count
from fedcli.partitioning import Heterogeneity


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told apart; ``accuracy`` and ``f1`` are None without examples."""

    name: str = field(metadata={"key": "class"})
    examples: Count
    accuracy: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Score:
    """One entry of ``evaluation.json``: one model on one set of examples.

    ``accuracy`` lies in [0, 1]; ``confusion`` is K×K, rows the true class, columns the predicted.
    """

    model: str
    data: str
    examples: Count
    accuracy: float
    client: ClientId | None = None
    data_client: ClientId | None = None
    classes: tuple[str, ...] | None = None
    sha256: str | None = None
    loss: float | None = None
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    auc: float | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[Count, ...], ...] = ()
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


@dataclass(frozen=True)
class Epoch:
    """One local epoch of one client."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Telemetry:
    """``rounds/NNNN/updates/<id>.json``: how the training of one client went."""

    sha256: str
    num_examples: Count | None = None
    bytes: Count | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    device: str | None = None
    peak_memory_bytes: Count | None = None
    epochs: tuple[Epoch, ...] = ()


@dataclass(frozen=True)
class Shard:
    """One file of examples; ``content_sha256`` is that of the examples, whatever the run."""

    content_sha256: str | None = None
    bytes: Count | None = None


@dataclass(frozen=True)
class Partition:
    """``data/partition.json``."""

    classes: tuple[str, ...]
    label_counts: dict[ClientId, tuple[Count, ...]]
    scheme: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    test_label_counts: tuple[Count, ...] = ()
    shards: dict[str, Shard] = field(default_factory=dict)
    heterogeneity: Heterogeneity | None = None

    def __post_init__(self) -> None:
        """Refuse counts that are not one a class (``ValueError``)."""
        for client, counts in self.label_counts.items():
            if len(counts) != len(self.classes):
                raise ValueError(
                    f"label_counts of client {client}: {len(counts)} counts"
                    f" for {len(self.classes)} classes"
                )
