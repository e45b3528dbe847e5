"""The evaluation that runs are judged by."""

from collections import Counter
from collections.abc import Sequence

from fedcli.reporting.run_report import RoundReport
from fedcli.reporting.subject import Subject, subject_of

History = Sequence[RoundReport]


def subjects(runs: Sequence[History]) -> list[Subject]:
    """Return all subjects that were scored in any run, the global model on test first."""
    found = {subject_of(s) for rounds in runs for r in rounds for s in r.scores}
    return sorted(found, key=lambda subject: (subject != Subject(), subject))


def headline(runs: Sequence[History]) -> Subject | None:
    """Choose the subject that runs are compared by: the global model on the test set.

    If no run was scored on that, it is the subject of the global model that most runs have; of
    several, one of all classes, then the one with the most rounds. None without any.
    """
    found = [Counter(_of_global_model(rounds)) for rounds in runs]
    scored = sum(found, Counter[Subject]())
    if Subject() in scored:
        return Subject()
    return min(
        scored,
        key=lambda s: (-sum(s in own for own in found), bool(s.classes), -scored[s], s),
        default=None,
    )


def _of_global_model(rounds: History) -> list[Subject]:
    found = [subject_of(score) for round_ in rounds for score in round_.scores]
    return [s for s in found if s.model == "global" and not s.data_client]
