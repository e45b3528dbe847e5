"""``evaluation.json``: the scores of a round's models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcli.formats.records import ClientId, Count, FileRecord
from fedcli.storage.atomic import canonical_json

_SUBJECT = ("model", "client", "data", "data_client", "classes")


def subject_key(values: Mapping[str, Any]) -> str:
    """Return which model was scored on which data, as canonical JSON; the sort key of scores."""
    return canonical_json({key: values[key] for key in _SUBJECT}).decode()


@dataclass(frozen=True)
class ClassScore:
    """Recall (``accuracy``) and F1 of one class; None without examples."""

    name: str = field(metadata={"key": "class"})
    examples: Count
    accuracy: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Score:
    """One model on one set of examples; ``seconds`` is volatile.

    ``model`` is ``global``, or ``update`` or ``personal`` (of ``client``); ``sha256`` is the digest
    of its file. ``data`` names the set and ``data_client`` its owner; the examples are of
    ``classes``, None for all. Accuracies lie in [0, 1]. ``confusion`` is K×K: rows are true
    classes, columns predicted ones.
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
        """Refuse impossible scores (``ValueError``)."""
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy {self.accuracy}: expected 0 to 1")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion: expected as many columns as rows")

    @property
    def is_whole(self) -> bool:
        """Whether no figure is missing that ``evaluate`` writes."""
        figures = (self.sha256, self.loss, self.balanced_accuracy, self.macro_f1)
        counted = all(one.accuracy is not None for one in self.per_class if one.examples)
        return None not in figures and counted and len(self.confusion) == len(self.per_class) > 0


@dataclass(frozen=True)
class Evaluation(FileRecord):
    """The scores of a round: one for each model and each set of examples."""

    results: tuple[Score, ...]
    round: Count | None = None
