"""Several runs side by side, and whether their figures can be compared."""

from collections.abc import Sequence

from fedcli.reporting.headline import headline
from fedcli.reporting.model import Note, Report, RunReport, Subject, Summary

_SAME = 1e-9


def compare(runs: Sequence[RunReport]) -> Report:
    """Put runs side by side."""
    subject = headline([run.rounds for run in runs])
    notes = [*_on_headline(runs, subject), *_comparable(runs), *_majorities(runs, subject)]
    return Report(
        headline=subject,
        summary=tuple(_summary(run, subject) for run in runs),
        runs=tuple(runs),
        notes=tuple(notes),
    )


def _summary(run: RunReport, subject: Subject | None) -> Summary:
    complete = run.complete_rounds()
    scored = [(r, s) for r in complete if subject and (s := r.score(subject))]
    last = scored[-1][0] if scored else (complete[-1] if complete else None)
    final = scored[-1][1] if scored else None
    # max keeps the first of equal rounds
    best = max(scored, key=lambda pair: pair[1].accuracy, default=None)
    return Summary(
        label=run.label,
        centralised=run.centralised,
        round=last.number if last else None,
        accuracy=final.accuracy if final else None,
        balanced_accuracy=final.balanced_accuracy if final else None,
        auc=final.auc if final else None,
        sensitivity=final.sensitivity if final else None,
        specificity=final.specificity if final else None,
        loss=final.loss if final else None,
        best_accuracy=best[1].accuracy if best else None,
        best_round=best[0].number if best else None,
        bytes_total=last.bytes_total if last else None,
    )


def _on_headline(runs: Sequence[RunReport], subject: Subject | None) -> list[Note]:
    if subject is None:
        return []
    notes = []
    if subject != Subject():
        notes.append(Note(f"accuracy and loss are those of the {subject.name}"))
    for run in runs:
        if run.latest(subject) is None and headline([run.rounds]) is not None:
            text = f"{run.label} has no score of the {subject.name}: see its evaluations"
            notes.append(Note(text))
    return notes


def _majorities(runs: Sequence[RunReport], subject: Subject | None) -> list[Note]:
    """Say where an accuracy is no more than the share of the largest class."""
    notes = []
    for run in runs:
        found = run.latest(subject) if subject else None
        if found is None or len(found[1].per_class) < 2:
            continue
        largest = max(found[1].per_class, key=lambda one: one.examples)
        share = largest.examples / max(1, sum(one.examples for one in found[1].per_class))
        if abs(found[1].accuracy - share) < _SAME:
            text = (
                f"{run.label}: the accuracy is the share of the largest class,"
                f" {largest.name}: a model that always says {largest.name} has it too; see the"
                " balanced accuracy"
            )
            notes.append(Note(text + (" and the AUC" if found[1].auc is not None else "")))
    return notes


def _comparable(runs: Sequence[RunReport]) -> list[Note]:
    notes = []
    if len({run.classes for run in runs}) > 1:
        notes.append(Note("the runs do not have the same classes"))
    if len({run.test_content_sha256 for run in runs if run.test_content_sha256}) > 1:
        text = "the runs were not tested on the same examples: compare their accuracies with care"
        notes.append(Note(text))
    return notes
