"""Several runs side by side: what they are compared by, and whether they can be compared."""

from collections import Counter
from collections.abc import Sequence

from fedcli.report.model import Note, Report, RunReport, Subject, Summary, subject_of


def compare(runs: Sequence[RunReport]) -> Report:
    """Put runs side by side."""
    headline = _headline(runs)
    notes = [*_on_headline(headline), *_comparable(runs)]
    return Report(
        headline=headline,
        summary=tuple(_summary(run, headline) for run in runs),
        runs=tuple(runs),
        notes=tuple(notes),
    )


def subjects(runs: Sequence[RunReport]) -> list[Subject]:
    """Return everything that was evaluated in any of the runs, the global model on test first."""
    found = {subject_of(s) for run in runs for r in run.rounds for s in r.scores}
    return sorted(found, key=lambda subject: (subject != Subject(), subject))


def _headline(runs: Sequence[RunReport]) -> Subject | None:
    """Choose the test set; where no run has it, what most runs have of the global model."""
    found = Counter(
        subject
        for run in runs
        for subject in subjects([run])
        if subject.model == "global" and not subject.data_client
    )
    if not found or Subject() in found:
        return Subject() if found else None
    return min(found, key=lambda subject: (-found[subject], subject))


def _summary(run: RunReport, headline: Subject | None) -> Summary:
    complete = run.complete_rounds()
    scored = [(r, s) for r in complete if headline and (s := r.score(headline))]
    last = scored[-1][0] if scored else (complete[-1] if complete else None)
    final = scored[-1][1] if scored else None
    # of equal rounds the first: max keeps the one it meets first
    best = max(scored, key=lambda pair: pair[1].accuracy, default=None)
    return Summary(
        label=run.label,
        centralised=run.centralised,
        round=last.number if last else None,
        accuracy=final.accuracy if final else None,
        loss=final.loss if final else None,
        best_accuracy=best[1].accuracy if best else None,
        best_round=best[0].number if best else None,
        bytes_total=last.bytes_total if last else None,
    )


def _on_headline(headline: Subject | None) -> list[Note]:
    if headline is None or headline == Subject():
        return []
    return [Note(f"accuracy and loss are those of the {headline.name}")]


def _comparable(runs: Sequence[RunReport]) -> list[Note]:
    notes = []
    if len({run.classes for run in runs}) > 1:
        notes.append(Note("the runs do not have the same classes"))
    if len({run.test_sha256 for run in runs if run.test_sha256}) > 1:
        text = "the runs were not tested on the same examples: compare their accuracies with care"
        notes.append(Note(text))
    return notes
