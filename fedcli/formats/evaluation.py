"""``evaluation.json``: the scores of a round's models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedcli.formats.records import MANY, ClientId, Count, FileRecord
from fedcli.storage.atomic import canonical_json

_SUBJECT = ("model", "client", "data", "data_client", "classes")


def subject_key(values: Mapping[str, Any]) -> str:
    """Return which model was scored on which data, as canonical JSON; the sort key of scores."""
    return canonical_json({key: values[key] for key in _SUBJECT}).decode()


def may_have_curve(subject: Mapping[str, Any]) -> bool:
    """Return whether a score keeps its ROC curve: that of a global model on common data.

    Ten thousand clients with a curve each would not fit into the file.
    """
    return subject["model"] == "global" and subject["data_client"] is None


@dataclass(frozen=True)
class ClassScore:
    """Recall (``accuracy``) and F1 of one class; None without examples."""

    name: str = field(metadata={"key": "class"})
    examples: Count
    accuracy: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class RocCurve:
    """The ROC curve of two classes, as counts of examples, from (0, 0) to all of both classes.

    Each pair of entries is one threshold: examples of the first class above it (false positives)
    and of the second (true positives).
    """

    false_positives: tuple[Count, ...]
    true_positives: tuple[Count, ...]

    def __post_init__(self) -> None:
        """Refuse what is not a curve (``ValueError``)."""
        pair = (self.false_positives, self.true_positives)
        if len(pair[0]) != len(pair[1]) or any(
            len(counts) < 2 or counts[0] or not counts[-1] or list(counts) != sorted(counts)
            for counts in pair
        ):
            raise ValueError("roc: expected two lists of one length that rise from 0")

    @property
    def points(self) -> list[tuple[float, float]]:
        """The rates of false and of true positives, from (0, 0) to (1, 1)."""
        false, true = self.false_positives, self.true_positives
        return [(f / false[-1], t / true[-1]) for f, t in zip(false, true, strict=True)]


@dataclass(frozen=True)
class Score:
    """One model on one set of examples; ``seconds`` is volatile.

    ``model`` is ``global``, or ``update`` or ``personal`` (of ``client``); ``sha256`` is the digest
    of its file. ``data`` names the set and ``data_client`` its owner; the examples are of
    ``classes``, None for all. Accuracies lie in [0, 1]. ``confusion`` is K×K: rows are true
    classes, columns predicted ones. ``auc`` is of the second of two classes, or the mean of each
    class against the rest, with its 95 % interval; ``sensitivity`` (of the second class),
    ``specificity`` and ``roc`` are of two classes; only some scores have a ``roc``, as
    ``may_have_curve`` says.
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
    auc_interval: tuple[float, ...] | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    roc: RocCurve | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[Count, ...], ...] = ()
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible scores (``ValueError``)."""
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy {self.accuracy}: expected 0 to 1")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion: expected as many columns as rows")
        bounds = (0.0, *(self.auc_interval or (0.0, 1.0)), 1.0)
        if len(bounds) != 4 or list(bounds) != sorted(bounds):
            raise ValueError("auc_interval: expected two numbers from 0 to 1, the lower one first")

    @property
    def is_whole(self) -> bool:
        """Whether no figure is missing that ``evaluate`` writes."""
        figures = (self.sha256, self.loss, self.balanced_accuracy, self.macro_f1)
        counted = all(one.accuracy is not None for one in self.per_class if one.examples)
        square = len(self.confusion) == len(self.per_class) > 0
        return None not in figures and counted and square and self._is_ranked

    @property
    def _is_ranked(self) -> bool:
        """Whether the figures are there that its classes allow: AUC, ROC, and those of two."""
        allowed = sum(one.examples > 0 for one in self.per_class) > 1
        if (self.auc is not None) != allowed:
            return False
        if len(self.per_class) != 2:
            return True
        negative, positive = (one.accuracy for one in self.per_class)
        curve = (self.roc is not None) == (allowed and may_have_curve(vars(self)))
        return curve and (self.specificity, self.sensitivity) == (negative, positive)


@dataclass(frozen=True)
class Evaluation(FileRecord):
    """The scores of a round: one for each model and each set of examples."""

    room = MANY

    results: tuple[Score, ...]
    round: Count | None = None
