"""Score the models of a run on test data, and keep the scores in the round's directory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedcli.checkpoint import Checkpoint
from fedcli.errors import BadInputError, DataError, NotReadyError, UsageError
from fedcli.files import canonical_json, read_json, write_json
from fedcli.metadata import Kind
from fedcli.progress import Progress, Silence
from fedcli.run import Round, Run

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
    """Test data that is only read when there is something to score on it.

    What ``lasts`` belongs to the run and does not change; a folder of the user's may.
    """

    name: str
    client: str | None
    lasts: bool
    load: "Callable[[], Examples]"


def evaluate(
    run: Run,
    *,
    rounds: Rounds = "latest",
    client: str | None = None,
    on_clients: bool = False,
    data: str | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    own_model: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Score the global models of ``rounds``, or the updates of one ``client``.

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
    models = _models(run, rounds, client)
    test_sets = list(_test_sets(run, on_clients, data, progress))
    scorer: Scorer | None = None
    computed, evaluations = 0, []
    progress.start("evaluate", len(models) * len(test_sets))
    for model in models:
        stored = read_evaluations(model.round)
        for test_set in test_sets:
            key = _key(model, test_set, chosen)
            entry = stored.get(_name(key))
            if force or not test_set.lasts or entry is None or entry["sha256"] != model.sha256:
                if scorer is None:
                    scorer = _scorer(run, device, threads, own_model)
                entry = {**key, **_score(scorer, model, test_set, chosen)}
                # read again: another process may have added its scores meanwhile
                stored = {**read_evaluations(model.round), _name(key): entry}
                _write_evaluations(model.round, stored)
                computed += 1
            evaluations.append({"round": model.round.number, **entry})
            progress.advance()
    return EvaluateResult(computed, tuple(evaluations))


def read_evaluations(round_: Round) -> dict[str, dict[str, Any]]:
    """Read ``evaluation.json`` of a round, each entry by what it scores; empty without one.

    Raises ``BadInputError`` when the file is broken.
    """
    try:
        results = read_json(round_.evaluation)["results"]
        return {_name({key: entry[key] for key in _KEYS}): entry for entry in results}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{round_.evaluation}: not a file of evaluations: {error!r}",
            hint="delete it and evaluate again",
        ) from None


def _write_evaluations(round_: Round, entries: dict[str, dict[str, Any]]) -> None:
    results = [entries[name] for name in sorted(entries)]
    write_json(round_.evaluation, {"format": 1, "round": round_.number, "results": results})


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


def _models(run: Run, rounds: Rounds, client: str | None) -> list[_Model]:
    if client is None:
        available = {r.number: r.global_model for r in run.complete_rounds()}
        what = "global model"
    else:
        (client,) = run.choose_clients([client])
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


def _test_sets(
    run: Run, on_clients: bool, data: str | None, progress: Progress
) -> "list[_TestSet]":
    from fedcli.shards import read_shard

    if data is not None:
        from fedcli.datasets import load_examples

        name = Path(data).name
        return [
            _TestSet(
                name, None, False, partial(load_examples, data, run.info.dataset, "test", progress)
            )
        ]
    if not on_clients:
        shard = run.test_shard
        if not shard.exists():
            raise NotReadyError(
                f"{shard}: this run holds no test data",
                hint="name some: fedcli evaluate --data PATH",
            )
        return [_TestSet("test", None, True, partial(read_shard, shard))]
    shards = {client: run.validation_shard(client) for client in run.info.clients}
    found = {client: shard for client, shard in shards.items() if shard.exists()}
    if not found:
        raise NotReadyError(
            f"{run.root}: this run holds no validation data",
            hint="make the run with: fedcli partition --val-fraction 0.1",
        )
    return [
        _TestSet("validation", client, True, partial(read_shard, shard))
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
