"""Several runs side by side, and whether their figures can be compared."""

from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from statistics import fmean

from fedcli.evaluation.intervals import Interval, bootstrap_intervals
from fedcli.formats.evaluation import Score
from fedcli.reporting.fairness import fairness
from fedcli.reporting.grouping import same_seed_notes
from fedcli.reporting.headline import headline
from fedcli.reporting.methods import methods_of
from fedcli.reporting.metric import METRICS, Metric, chance
from fedcli.reporting.report import Attainment, Report, Summary
from fedcli.reporting.run_report import Note, RoundReport, RunReport
from fedcli.reporting.subject import Subject
from fedcli.reporting.target import attainment
from fedcli.reporting.words import runs_named
from fedcli.text import listed

_SAME = 1e-9
_ONE_LINE = 0.01  # test sets drawn with other seeds differ by less


def compare(
    runs: Sequence[RunReport],
    metric: Metric = METRICS["accuracy"],
    target: float | None = None,
    group_by: Sequence[str] = (),
) -> Report:
    """Put runs side by side, judged by ``metric``; ``target`` is a value of it to reach.

    ``group_by`` is as in ``methods_of``.
    """
    subject = headline([run.rounds for run in runs])
    notes = [*_on_headline(runs, subject, metric), *_comparable(runs)]
    notes += same_seed_notes(runs) if len(runs) > 2 and not group_by else ()
    notes += _majorities(runs, subject) if metric.name == "accuracy" else ()
    rows = [_summary(run, subject, metric) for run in runs]
    if len(runs) == 1:
        rows = [_with_intervals(rows[0], runs[0], subject)]
    return Report(
        headline=subject,
        summary=tuple(rows),
        runs=tuple(_with_roc(run, subject) for run in runs),
        notes=tuple(notes),
        metric=metric.name,
        chance=_chance(runs, subject, metric),
        target=target,
        attainments=_attainments(runs, subject, metric, target),
        fairness=tuple(filter(None, (fairness(run, metric) for run in runs))),
        methods=methods_of(runs, subject, group_by),
    )


def _with_intervals(row: Summary, run: RunReport, subject: Subject | None) -> Summary:
    latest = run.latest(subject) if subject else None
    return replace(row, intervals=_intervals(latest[1])) if latest else row


def _intervals(score: Score) -> dict[str, Interval]:
    bounds = score.auc_interval
    of_auc = {"auc": (bounds[0], bounds[1])} if bounds else {}
    return bootstrap_intervals(score.confusion) | of_auc


def _with_roc(run: RunReport, subject: Subject | None) -> RunReport:
    """Keep the ROC curve of the latest score of the headline alone: each has 200 points."""
    latest = run.latest(subject) if subject else None
    rounds = tuple(map(_without_roc, run.rounds))
    return replace(run, rounds=rounds, roc=latest[1].roc if latest else None)


def _without_roc(round_: RoundReport) -> RoundReport:
    if all(score.roc is None for score in round_.scores):
        return round_
    return replace(round_, scores=tuple(replace(score, roc=None) for score in round_.scores))


def _attainments(
    runs: Sequence[RunReport], subject: Subject | None, metric: Metric, target: float | None
) -> tuple[Attainment, ...]:
    if target is None:
        return ()
    return tuple(attainment(run, subject, metric, target) for run in runs)


def _chance(runs: Sequence[RunReport], subject: Subject | None, metric: Metric) -> float | None:
    latest = [found[1] for run in runs if subject and (found := run.latest(subject))]
    values = [chance(metric, score) for score in latest]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values) or max(known) - min(known) > _ONE_LINE:
        return None
    return fmean(known)


def _summary(run: RunReport, subject: Subject | None, metric: Metric) -> Summary:
    complete = run.complete_rounds()
    scored = [(r, s) for r in complete if subject and (s := r.score(subject))]
    last = scored[-1][0] if scored else (complete[-1] if complete else None)
    final = scored[-1][1] if scored else None
    known = [(value, round_) for round_, s in scored if (value := metric.of(s)) is not None]
    # max keeps the first of equal rounds
    best = max(known, key=lambda pair: metric.gain(pair[0]), default=None)
    return Summary(
        label=run.label,
        centralised=run.centralised,
        round=last.number if last else None,
        accuracy=final.accuracy if final else None,
        balanced_accuracy=final.balanced_accuracy if final else None,
        macro_f1=final.macro_f1 if final else None,
        auc=final.auc if final else None,
        sensitivity=final.sensitivity if final else None,
        specificity=final.specificity if final else None,
        loss=final.loss if final else None,
        value=metric.of(final),
        best=best[0] if best else None,
        best_round=best[1].number if best else None,
        bytes_total=last.bytes_total if last else None,
        epsilon=last.epsilon if last else None,
        epsilon_clients=last.epsilon_clients if last else None,
    )


def _on_headline(runs: Sequence[RunReport], subject: Subject | None, metric: Metric) -> list[Note]:
    if subject is None:
        return []
    notes = []
    if subject != Subject():
        is_loss = metric.name == "loss"
        what = "the loss is that" if is_loss else f"{metric.title} and loss are those"
        notes.append(Note(f"{what} of the {subject.name}"))
    for run in runs:
        found = run.latest(subject)
        if found is None and headline([run.rounds]) is not None:
            text = f"{run.label} has no score of the {subject.name}: see its evaluations"
            notes.append(Note(text))
        elif found is not None and metric.of(found[1]) is None:
            notes.append(_lacking(run, metric, found[1]))
    return notes


def _lacking(run: RunReport, metric: Metric, score: Score) -> Note:
    """Say why a run does not have the metric."""
    without = f"{run.label} has no {metric.title}"
    if metric.of_two and len(run.classes) != 2:
        return Note(f"{without}: only two classes have it, and this run has {len(run.classes)}")
    absent = [one.name for one in score.per_class if not one.examples]
    if absent:
        return Note(f"{without}: there are no examples of {listed(absent)} to score on")
    data = "" if score.data == Subject.data else " --data PATH"
    command = f"fedcli evaluate --run {quote(run.path)} --round all{data}"
    return Note(f"{without}: its evaluation.json does not hold it; score it again", command)


def _majorities(runs: Sequence[RunReport], subject: Subject | None) -> list[Note]:
    """Say where an accuracy is no more than the share of the largest class."""
    found_in: dict[str, list[str]] = {}
    for run in runs:
        found = run.latest(subject) if subject else None
        if found is None or len(found[1].per_class) < 2:
            continue
        largest = max(found[1].per_class, key=lambda one: one.examples)
        share = largest.examples / max(1, sum(one.examples for one in found[1].per_class))
        if abs(found[1].accuracy - share) < _SAME:
            text = (
                f"the accuracy is the share of the largest class, {largest.name}: a model that"
                f" always says {largest.name} has it too; see the balanced accuracy"
            )
            text += " and the AUC" if found[1].auc is not None else ""
            found_in.setdefault(text, []).append(run.label)
    return [Note(f"{runs_named(labels)}: {text}") for text, labels in found_in.items()]


def _comparable(runs: Sequence[RunReport]) -> list[Note]:
    notes = []
    if len({run.classes for run in runs}) > 1:
        notes.append(Note("the runs do not have the same classes"))
    if len({run.test_content_sha256 for run in runs if run.test_content_sha256}) > 1:
        text = "the runs were not tested on the same examples: compare their accuracies with care"
        notes.append(Note(text))
    return notes
