"""What is scored: a model, and the examples that it is scored on."""

from dataclasses import dataclass

from fedcli.formats.evaluation import Score
from fedcli.reporting.words import model_named


@dataclass(frozen=True, order=True)
class Subject:
    """Which model was scored on which examples; rounds and runs are compared on one subject.

    ``model`` is ``global``, or ``update`` or ``personal`` (of ``client``); ``data`` is ``test``,
    ``client-test`` or ``validation`` (of ``data_client``), or the name of other data; ``classes``
    is empty for all classes.
    """

    model: str = "global"
    data: str = "test"
    classes: tuple[str, ...] = ()
    client: str = ""
    data_client: str = ""

    @property
    def name(self) -> str:
        """The subject in words."""
        return self.named(", ".join(self.classes))

    def named(self, classes: str) -> str:
        """Return the subject in words, with ``classes`` for the names of its classes."""
        model = model_named(self.model, self.client)
        data = f"{self.data} of client {self.data_client}" if self.data_client else self.data
        return f"{model} on {data}, only {classes}" if self.classes else f"{model} on {data}"


def subject_of(score: Score) -> Subject:
    """Return the subject of a score."""
    return Subject(
        score.model, score.data, score.classes or (), score.client or "", score.data_client or ""
    )
