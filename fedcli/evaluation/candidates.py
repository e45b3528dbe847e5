"""The models that ``evaluate`` scores: global models, updates and personal models."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from fedcli.aggregation.base_model import Contents
from fedcli.aggregation.encodings import decoded
from fedcli.algorithms import ALGORITHMS
from fedcli.errors import BadInputError, CheckpointError, NotReadyError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.dtypes import Array
from fedcli.formats.metadata import Kind
from fedcli.formats.update_tensors import UpdateTensors
from fedcli.plan.layer_patterns import matching
from fedcli.run import Run
from fedcli.run.client_state import LOCAL, StateStore
from fedcli.run.round import Round
from fedcli.security.global_model import check_global_model

Rounds = int | Literal["latest", "all"]
Tensors = dict[str, Array]

PERSONAL = "personal"  # the slot of a state that holds a whole personal model


@dataclass(frozen=True)
class Model:
    """A model to score: ``kind`` is ``global``, ``update`` or ``personal`` (of ``client``).

    ``sha256`` identifies the weights; for a personal model it is the SHA-256 of the digests of the
    global model and of the client's state. ``read`` reads the weights.
    """

    kind: str
    round: Round
    client: str | None
    path: Path
    sha256: str
    read: Callable[[], Tensors]


def global_models(run: Run, rounds: Rounds) -> list[Model]:
    """Return the global models of ``rounds``.

    Raises ``NotReadyError``, ``CheckpointError``, and what ``check_global_model`` raises.
    """
    complete = [round_.number for round_ in run.complete_rounds()]
    models = []
    for number in _chosen(run, complete, rounds, "global model"):
        round_ = run.round(number)
        with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
            sha256 = model.digest()
        check_global_model(run, round_, model.metadata, sha256)
        read = partial(_tensors, run, round_)
        models.append(Model("global", round_, None, model.path, sha256, read))
    return models


def update_models(store: StateStore, rounds: Rounds, clients: Sequence[str]) -> list[Model]:
    """Return the updates of ``clients`` as whole models.

    Tensors that an update withholds come from its base model, or from the client's state if they
    stay with the client. Raises ``UsageError`` if updates are masked, ``NotReadyError``,
    ``CheckpointError`` and ``StorageError``.
    """
    run = store.run
    if run.info.plan.secagg is not None:
        raise UsageError(
            "--id: updates of this run are masked; only their sum, the global model, can be scored",
            hint="leave --id out",
        )
    models = []
    for client in clients:
        delivered = [round_.number for round_ in run.rounds() if round_.update(client).exists()]
        for number in _chosen(run, delivered, rounds, f"update of client {client}"):
            round_ = run.round(number)
            with UpdateTensors(round_.update(client), most=run.largest_update(number)) as update:
                sha256 = update.digest()
            read = partial(_read_update, store, round_, client, sha256)
            models.append(Model("update", round_, client, update.path, sha256, read))
    return models


def _read_update(store: StateStore, round_: Round, client: str, sha256: str) -> Tensors:
    with UpdateTensors(round_.update(client)) as update, decoded(update, store.run):
        whole, found = update.tensors_and_digest()
        if found != sha256:
            raise BadInputError("was replaced while in use; repeat the command", path=update.path)
        # Tensors that an algorithm sends in addition to the model are named <slot>/<tensor>.
        tensors = {name: values for name, values in whole.items() if "/" not in name}
        try:
            declared = Contents.of(update.metadata)
        except ValueError as error:
            raise CheckpointError(str(error), path=update.path) from None
    tied = update.metadata.tied or {}
    if not declared.freeze and not declared.local_layers:
        return _under_all_names(tensors, tied)
    before = store.run.round(round_.number - 1)
    base = _tensors(store.run, before)
    if local := matching(declared.local_layers, base):
        if not store.path(round_.number, client).exists():
            raise NotReadyError(
                f"{min(local)} and other layers stayed with the client, but"
                f" {store.path(round_.number, client)} is missing",
                hint="score it where the client's state is, with --state DIR",
                path=update.path,
            )
        base |= store.read(round_.number, client).slot(LOCAL)
    return _under_all_names(base | tensors, tied)


def _under_all_names(tensors: Tensors, tied: Mapping[str, str]) -> Tensors:
    return tensors | {alias: tensors[name] for alias, name in tied.items() if name in tensors}


def personal_models(
    store: StateStore, rounds: Rounds, clients: Sequence[str] | None
) -> list[Model]:
    """Return the personal models of ``clients``, or of all that have one.

    A personal model is the round's global model with the client's own layers, or a whole model of
    the client's, from the client's newest state up to that round. Raises ``NotReadyError``,
    ``CheckpointError`` and ``StorageError``.
    """
    run = store.run
    complete = [round_.number for round_ in run.complete_rounds() if round_.number > 0]
    numbers = _chosen(run, complete, rounds, "global model that clients have trained")
    models: list[Model] = []
    for number in numbers:
        wanted = store.holders(number) if clients is None else clients
        found = (_personal_model(store, run.round(number), client) for client in wanted)
        models += [model for model in found if model is not None]
    held = {model.client for model in models}
    missing = [client for client in clients or () if client not in held]
    if missing or not models:
        who = f"client {missing[0]}" if missing else "a client"
        raise NotReadyError(
            f"--personal: {store.path(numbers[-1], '0').parent.parent}: there is no personal model"
            f" of {who} up to round {numbers[-1]}",
            hint=f"train-client keeps one with --algorithm {' or '.join(_keeping())}, or with"
            " --local-layers",
        )
    return models


def _keeping() -> list[str]:
    """Return the algorithms that give clients a personal model."""
    return [name for name, row in ALGORITHMS.items() if row.keeps == PERSONAL or row.keeps_layers]


def _personal_model(store: StateStore, round_: Round, client: str) -> Model | None:
    number = store.newest(round_.number, client, {LOCAL, PERSONAL})
    if number is None:
        return None
    path = store.path(number, client)
    with Checkpoint(path, Kind.CLIENT_STATE) as state:
        of_global, of_state = digest(round_.global_model), state.digest()
    sha256 = hashlib.sha256((of_global + of_state).encode()).hexdigest()
    read = partial(_read_personal, store, round_, number, client)
    return Model("personal", round_, client, path, sha256, read)


def _read_personal(store: StateStore, round_: Round, number: int, client: str) -> Tensors:
    state = store.read(number, client)
    return _tensors(store.run, round_) | state.slot(LOCAL) | state.slot(PERSONAL)


def _tensors(run: Run, round_: Round) -> Tensors:
    with Checkpoint(round_.global_model, Kind.GLOBAL) as model:
        tensors, sha256 = model.tensors_and_digest()
    check_global_model(run, round_, model.metadata, sha256)
    return tensors


def _chosen(run: Run, available: Sequence[int], rounds: Rounds, what: str) -> list[int]:
    if not available:
        raise NotReadyError(f"there is no {what} yet", path=run.root)
    if rounds == "latest":
        return [max(available)]
    if rounds == "all":
        return sorted(available)
    if rounds not in available:
        raise NotReadyError(
            f"--round {rounds}: round {rounds} has no {what}; the latest is {max(available)}"
        )
    return [rounds]
