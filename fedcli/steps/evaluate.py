"""Score the models of a run on test data, and store the scores in the round's directory."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcli.errors import DataError, UsageError
from fedcli.evaluation.candidates import (
    Model,
    Rounds,
    global_models,
    personal_models,
    update_models,
)
from fedcli.evaluation.test_sets import TestSet, choose
from fedcli.formats.evaluation import Evaluation, Score, may_have_curve, subject_key
from fedcli.formats.records import encode
from fedcli.options import NONE, Given
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.client_state import StateStore
from fedcli.run.round import Round
from fedcli.text import listed

if TYPE_CHECKING:
    from fedcli.datasets.shards import Examples
    from fedcli.evaluation.scorer import Outputs, Scorer

__all__ = ["EvaluateResult", "Rounds", "evaluate", "read_evaluations"]


@dataclass(frozen=True)
class EvaluateResult:
    """The requested evaluations, as in ``evaluation.json``, each with its round.

    ``computed`` of them are new; the others existed already. ``not_stored`` are those new ones that
    no file holds.
    """

    computed: int
    evaluations: tuple[dict[str, Any], ...]
    not_stored: int = 0


def evaluate(
    run: Run,
    *,
    rounds: Rounds = "latest",
    clients: Sequence[str] = (),
    personal: bool = False,
    on_clients: bool = False,
    data: str | None = None,
    reading: Given = NONE,
    classes: Sequence[str] | None = None,
    state: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    own_model: str | None = None,
    store: bool | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Score the global models of ``rounds``, or the updates of ``clients`` (ids as ``--id``).

    With ``personal``, score the personal models of ``clients``, or of all; ``state`` is the folder
    of client states, by default the run. Test data are the run's test set, each client's own
    examples (``on_clients``), or ``data``, a folder or npz file, read as ``reading`` says; for a
    personal model, its client's examples. ``classes`` restricts the examples, while the model still
    chooses among all classes. Existing scores are not computed again. ``store`` says whether new
    ones are stored; by default all are but those that tell of a client that a private run protects.

    Raises ``UsageError``, ``NotReadyError``, ``BadInputError``, ``DataError``,
    ``OutOfMemoryError`` and ``StorageError``.
    """
    progress = progress or Silence()
    chosen = _choose_classes(run, classes)
    sets_of = choose(
        run, on_clients=on_clients, data=data, reading=reading, personal=personal, progress=progress
    )
    models = _models(StateStore(run, state), rounds, clients, personal=personal)
    scorer = cache(lambda: _scorer(run, device, threads, own_model))
    computed: int = 0
    not_stored: int = 0
    evaluations: list[dict[str, Any]] = []
    progress.start("evaluate", sum(len(sets_of(model.client)) for model in models))
    for model in models:
        known = {} if force else read_evaluations(model.round)
        outputs = _Outputs(model, scorer, chosen)
        fresh, entries = _score(model, sets_of(model.client), outputs, known, progress)
        kept = _to_store(run, fresh, store, own=bool(data))
        _store(model.round, kept)
        computed += len(fresh)
        not_stored += len(fresh) - len(kept)
        evaluations += [{"round": model.round.number, **encode(score)} for score in entries]
    if not evaluations:
        raise DataError("there are no examples of the requested classes to score on")
    return EvaluateResult(computed, tuple(evaluations), not_stored)


def _to_store(
    run: Run, fresh: Mapping[str, Score], store: bool | None, *, own: bool
) -> dict[str, Score]:
    """Return those of the new scores that are stored; by default all that tell of no client."""
    if store is None:
        return {key: one for key, one in fresh.items() if not _tells(run, one, own=own)}
    return dict(fresh) if store else {}


def _tells(run: Run, score: Score, *, own: bool) -> bool:
    """Return whether a score tells of a client what a private run protects.

    That is a score on a client's examples, as ``own`` data may be where nobody has all, or one of
    what noise has not covered yet.
    """
    plan = run.info.plan
    if score.model == "update" and plan.aggregate.update_noise:
        return True
    clients_own = score.data_client is not None or score.model == "personal"
    return plan.is_private and (clients_own or (own and not run.is_simulation))


def _score(
    model: Model,
    test_sets: Sequence[TestSet],
    outputs: "_Outputs",
    known: Mapping[str, Score],
    progress: Progress,
) -> tuple[dict[str, Score], list[Score]]:
    """Return the new scores of a model by subject, and all requested scores in order."""
    fresh, entries = {}, []
    for test_set in test_sets:
        subject = _subject(model, test_set, outputs.classes)
        key = subject_key(subject)
        before = known.get(key)
        if before is not None and before.sha256 == model.sha256 and before.is_whole:
            entries.append(before)
        elif figures := outputs.figures(test_set):
            figures["roc"] = figures["roc"] if may_have_curve(subject) else None
            fresh[key] = Score(**subject, sha256=model.sha256, **figures)
            entries.append(fresh[key])
        else:
            progress.say(f"{test_set.title}: no examples to score on")
        progress.advance()
    return fresh, entries


def _models(
    store: StateStore, rounds: Rounds, clients: Sequence[str], *, personal: bool
) -> list[Model]:
    chosen = store.run.choose_clients(clients) if clients else None
    if store.directory is not None:
        if not personal and chosen is None:
            raise UsageError("--state: holds what clients keep; give --personal or --id with it")
        if not store.directory.is_dir():
            raise UsageError(f"--state {store.directory}: expected the folder of a client's state")
    if personal:
        return personal_models(store, rounds, chosen)
    if chosen is None:
        return global_models(store.run, rounds)
    return update_models(store, rounds, chosen)


def _scorer(run: Run, device: str, threads: int | None, own_model: str | None) -> "Scorer":
    from fedcli.evaluation.scorer import Scorer

    return Scorer(run.info, device=device, threads=threads, own_model=own_model)


class _Outputs:
    """The outputs of a model on the parts of test sets, computed once per part."""

    def __init__(
        self, model: Model, scorer: "Callable[[], Scorer]", chosen: list[str] | None
    ) -> None:
        self._model = model
        self._make_scorer = scorer
        self.classes = chosen
        self._known: dict[str, Outputs | None] = {}

    @cached_property
    def _scorer(self) -> "Scorer":
        scorer = self._make_scorer()
        scorer.load(self._model.read(), self._model.path)
        return scorer

    def figures(self, test_set: TestSet) -> dict[str, Any] | None:
        """Return the values of a ``Score``; None without examples of the classes."""
        scorer = self._scorer  # building the network does not count as scoring
        started = time.perf_counter()
        found = [self._of(*part) for part in test_set.parts.items()]
        known = [outputs for outputs in found if outputs is not None]
        if not known:
            return None
        loss, scores = scorer.score(known)
        return {"loss": loss, **vars(scores), "seconds": time.perf_counter() - started}

    def _of(self, name: str, load: "Callable[[], Examples]") -> "Outputs | None":
        if name not in self._known:
            examples = load()
            x, y = examples.x, examples.y
            if self.classes is not None:
                wanted = np.isin(y, [self._scorer.classes.index(one) for one in self.classes])
                x, y = x[wanted], y[wanted]
            self._known[name] = self._scorer.outputs(x, y) if len(y) else None
        return self._known[name]


def read_evaluations(round_: Round) -> dict[str, Score]:
    """Read ``evaluation.json`` of a round as scores by subject; empty without the file.

    Raises ``BadInputError`` when the file is broken.
    """
    found = Evaluation.read(round_.evaluation)
    return {} if found is None else {subject_key(vars(score)): score for score in found.results}


def _store(round_: Round, fresh: Mapping[str, Score]) -> None:
    # Another process may write its scores between our read and our write, and overwrite ours:
    # whoever finds its scores gone adds them again.
    for _ in range(_TRIES):
        if not fresh:
            return
        scores = {**read_evaluations(round_), **fresh}
        results = tuple(scores[key] for key in sorted(scores))
        Evaluation(results, round_.number).write(round_.evaluation)
        written = read_evaluations(round_)
        fresh = {key: score for key, score in fresh.items() if key not in written}


_TRIES = 20


def _subject(model: Model, test_set: TestSet, chosen: list[str] | None) -> dict[str, Any]:
    return {
        "model": model.kind,
        "client": model.client,
        "data": test_set.name,
        "data_client": test_set.client,
        "classes": None if chosen is None else tuple(chosen),
    }


def _choose_classes(run: Run, names: Sequence[str] | None) -> list[str] | None:
    """Resolve class names, or class numbers, to names in class order."""
    if names is None:
        return None
    classes = run.info.dataset.classes
    numbers = set()
    for name in names:
        if name in classes:
            numbers.add(classes.index(name))
        elif name.isdecimal() and int(name) < len(classes):
            numbers.add(int(name))
        else:
            raise UsageError(f"--classes: unknown class {name!r}; known: {listed(classes)}")
    if not numbers:
        raise UsageError("--classes: expected at least one class")
    return [classes[number] for number in sorted(numbers)]
