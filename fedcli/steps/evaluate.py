"""Score the models of a run on test data, and keep the scores in the round's directory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedcli.advice import evaluate_command
from fedcli.checkpoint import Checkpoint
from fedcli.errors import BadInputError, DataError, NotReadyError, UsageError
from fedcli.files import canonical_json, read_json, write_json
from fedcli.metadata import Kind
from fedcli.progress import Progress, Silence
from fedcli.run import Round, Run
from fedcli.shards import read_shard
from fedcli.steps.delivered import fingerprint

if TYPE_CHECKING:
    from fedcli.evaluation import Scorer
    from fedcli.shards import Examples

Rounds = int | Literal["latest", "all"]


@dataclass(frozen=True)
class EvaluateResult:
    """The evaluations asked for, as ``evaluation.json`` holds them, each with its round.

    ``computed`` of them were made now; the others were there already.
    """

    computed: int
    evaluations: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Model:
    round: Round
    client: str | None
    path: Path
    sha256: str


@dataclass(frozen=True)
class _TestSet:
    """Test data; that of the run is only read when there is something to score on it."""

    name: str
    client: str | None
    load: "Callable[[], Examples]"


def evaluate(
    run: Run,
    *,
    rounds: Rounds = "latest",
    clients: Sequence[str] = (),
    on_clients: bool = False,
    data: str | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    own_model: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Score the global models of ``rounds``, or the updates of ``clients`` (ids as ``--id``).

    They are scored on the run's test shard, on every client's validation shard (``on_clients``),
    or on ``data``, a folder or npz file; with ``classes``, on the examples of these only, while
    the model still chooses among all. What is there already is not computed again.

    Raises ``UsageError``, ``NotReadyError``, ``BadInputError``, ``DataError``,
    ``OutOfMemoryError`` and ``StorageError``.
    """
    progress = progress or Silence()
    if on_clients and data is not None:
        raise UsageError("--clients and --data exclude each other")
    chosen = _choose_classes(run, classes)
    models = _models(run, rounds, clients)
    test_sets = _test_sets(run, on_clients, data, progress)
    scorer: Scorer | None = None
    computed, evaluations = 0, []
    progress.start("evaluate", len(models) * len(test_sets))
    for model in models:
        stored = read_evaluations(model.round)
        for test_set in test_sets:
            key = _key(model, test_set, chosen)
            entry = stored.get(_name(key))
            if force or entry is None or entry["sha256"] != model.sha256:
                if scorer is None:
                    scorer = _scorer(run, device, threads, own_model)
                entry = {**key, **_score(scorer, model, test_set, chosen)}
                _store(model.round, _name(key), entry)
                computed += 1
            evaluations.append({"round": model.round.number, **entry})
            progress.advance()
    return EvaluateResult(computed, tuple(evaluations))


def read_evaluations(round_: Round) -> dict[str, dict[str, Any]]:
    """Read ``evaluation.json`` of a round, each entry by what it scores; empty without one.

    Raises ``BadInputError`` when the file is broken.
    """
    try:
        values = read_json(round_.evaluation)
        if values["format"] != _FORMAT:
            raise ValueError(f"format {values['format']!r}, this fedcli reads {_FORMAT}")
        results = values["results"]
        return {_name({key: entry[key] for key in _KEYS}): entry for entry in results}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{round_.evaluation}: not a file of evaluations: {error!r}",
            hint="delete it and evaluate again",
        ) from None


def _store(round_: Round, name: str, entry: dict[str, Any]) -> None:
    # Another process may add its scores between our reading and our writing, and then lacks ours:
    # whoever finds its own entry gone adds it again.
    for _ in range(_TRIES):
        entries = {**read_evaluations(round_), name: entry}
        results = [entries[key] for key in sorted(entries)]
        values = {"format": _FORMAT, "round": round_.number, "results": results}
        write_json(round_.evaluation, values)
        if name in read_evaluations(round_):
            return


_FORMAT = 1
_TRIES = 20
_KEYS = ("model", "client", "data", "data_client", "classes")


def _key(model: _Model, test_set: _TestSet, chosen: list[str] | None) -> dict[str, Any]:
    return {
        "model": "global" if model.client is None else "update",
        "client": model.client,
        "data": test_set.name,
        "data_client": test_set.client,
        "classes": chosen,
    }


def _name(key: dict[str, Any]) -> str:
    return canonical_json(key).decode()


def _choose_classes(run: Run, names: Sequence[str] | None) -> list[str] | None:
    """Resolve class names, or numbers where no class has that name, to names in class order."""
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
            raise UsageError(f"--classes: unknown class {name!r}; known: {', '.join(classes)}")
    if not numbers:
        raise UsageError("--classes: expected at least one class")
    return [classes[number] for number in sorted(numbers)]


def _models(run: Run, rounds: Rounds, clients: Sequence[str]) -> list[_Model]:
    chosen = run.choose_clients(clients) if clients else [None]
    return [model for client in chosen for model in _models_of(run, rounds, client)]


def _models_of(run: Run, rounds: Rounds, client: str | None) -> list[_Model]:
    if client is None:
        available = {r.number: r.global_model for r in run.complete_rounds()}
        what = "global model"
    else:
        updates = {r.number: r.update(client) for r in run.rounds()}
        available = {number: path for number, path in updates.items() if path.exists()}
        what = f"update of client {client}"
    if not available:
        raise NotReadyError(f"{run.root}: there is no {what} yet")
    if rounds == "latest":
        numbers = [max(available)]
    elif rounds == "all":
        numbers = sorted(available)
    elif rounds in available:
        numbers = [rounds]
    else:
        raise NotReadyError(
            f"--round {rounds}: round {rounds} has no {what}; the latest is {max(available)}"
        )
    return [
        _Model(run.round(number), client, available[number], _digest(available[number], client))
        for number in numbers
    ]


def _digest(path: Path, client: str | None) -> str:
    with Checkpoint(path, Kind.GLOBAL if client is None else Kind.UPDATE) as checkpoint:
        return checkpoint.digest()


def _test_sets(run: Run, on_clients: bool, data: str | None, progress: Progress) -> list[_TestSet]:
    if data is not None:
        return [_own_data(run, data, progress)]
    if on_clients:
        return _validation_sets(run)
    if not run.test_shard.exists():
        raise NotReadyError(
            f"{run.test_shard}: this run holds no test data",
            hint=f"name some: {evaluate_command(run)}",
        )
    return [_TestSet("test", None, partial(read_shard, run.test_shard))]


def _own_data(run: Run, data: str, progress: Progress) -> _TestSet:
    from fedcli.datasets import load_examples

    examples = load_examples(data, run.info.dataset, "test", progress)
    # Two folders may have one name, and one folder may change: the content tells them apart.
    name = f"{Path(data).resolve().name} ({fingerprint(examples)[:8]})"
    return _TestSet(name, None, lambda: examples)


def _validation_sets(run: Run) -> list[_TestSet]:
    shards = {client: run.validation_shard(client) for client in run.info.clients}
    found = {client: shard for client, shard in shards.items() if shard.exists()}
    if not found:
        raise NotReadyError(
            f"{run.root}: this run holds no validation data",
            hint="make the run with: fedcli partition --val-fraction 0.1",
        )
    return [
        _TestSet("validation", client, partial(read_shard, shard))
        for client, shard in found.items()
    ]


def _scorer(run: Run, device: str, threads: int | None, own_model: str | None) -> "Scorer":
    from fedcli.evaluation import Scorer

    return Scorer(run.info, device=device, threads=threads, own_model=own_model)


def _score(
    scorer: "Scorer", model: _Model, test_set: _TestSet, chosen: list[str] | None
) -> dict[str, Any]:
    started = time.perf_counter()
    examples = test_set.load()
    x, y = examples.x, examples.y
    if chosen is not None:
        wanted = np.isin(y, [scorer.classes.index(name) for name in chosen])
        x, y = x[wanted], y[wanted]
    if not len(y):
        raise DataError(f"{test_set.name}: has no examples of the classes asked for")
    with Checkpoint(model.path) as checkpoint:
        scorer.load(checkpoint.tensors(), model.path)
    loss, scores = scorer.score(x, y)
    return {
        "sha256": model.sha256,
        "loss": loss,
        **scores.as_json(),
        "seconds": time.perf_counter() - started,
    }
