"""Train clients on their own data for one round, and write their updates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.client.deliver import ClientResult
from fedcli.client.rebuild import is_drawn, rebuild_models
from fedcli.client.session import Session, open_session
from fedcli.client.starting_state import check_state_is_own
from fedcli.client.train_one import train_one
from fedcli.errors import (
    BadInputError,
    ConflictError,
    FedcliError,
    NotReadyError,
    SeveralFailedError,
    UsageError,
)
from fedcli.formats.client_ids import check_distinct
from fedcli.formats.records import encode
from fedcli.options import NONE, Given
from fedcli.plan.execution import Execution
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.exchange import files_of_client, files_of_round
from fedcli.run.next_command import round_to_train
from fedcli.security.keys import SigningKey
from fedcli.security.signatures import member_keys

__all__ = ["ClientResult", "TrainClientResult", "train_client"]


@dataclass(frozen=True)
class TrainClientResult:
    """The result of ``train_client``; ``clients`` are in client order.

    For a client whose data is not in the run, ``send`` lists the files that the coordinator needs
    from it, in the order in which they are to arrive, ``may_send`` its telemetry, and ``awaits``
    the files of this round that it starts the next one from.
    """

    round: int
    training: dict[str, Any]
    device: str
    clients: tuple[ClientResult, ...]
    send: tuple[Path, ...]
    may_send: tuple[Path, ...]
    awaits: tuple[Path, ...]


def train_client(
    run: Run,
    clients: Sequence[str],
    *,
    round_number: int | None = None,
    data: str | None = None,
    reading: Given = NONE,
    options: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    seed: int | None = None,
    own_model: str | None = None,
    key: Path | None = None,
    noise_key: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainClientResult:
    """Train clients one after another and write their updates for a round.

    ``clients`` are ids as in ``--id``. ``data`` is a client's own folder or npz file, which
    replaces its shard in the run, read as ``reading`` says (``--skip-bad`` and ``--labels-csv``
    with its columns, by name). ``options`` are hyper-parameters by their names in ``TrainPlan``
    that override the run's plan. ``key`` is the file with a member's private key, ``noise_key`` the
    one that private training draws from. The same inputs and keys on the same machine with the same
    number of threads give the same bytes, whether clients are trained alone or together.

    Raises ``UsageError``, ``NotReadyError``, ``DataError``, ``ConflictError`` (the update exists
    and was made from other inputs), ``OutOfMemoryError`` and ``StorageError``. If a client's own
    data, files or state cannot be used, the others are trained before that is raised.
    """
    ids = _chosen(run, clients, data)
    signing = member_keys(run, ids, key)
    rebuild_models(run, own_model, progress)
    round_ = round_to_train(run, round_number, ids)
    session = open_session(
        run,
        round_,
        options or {},
        execution or Execution(),
        seed=seed,
        own_model=own_model,
        force=force,
        key=signing.get(ids[0]),
        noise_key=noise_key,
        progress=progress,
    )
    check_state_is_own(session, data)
    session = replace(session, drawn=_drew_start(run, ids, own_model))
    results = _train_each(session, ids, signing, data, reading)
    return _result(session, ids, results)


def _chosen(run: Run, clients: Sequence[str], data: str | None) -> list[str]:
    """Return the ids of clients. Raises ``UsageError`` for several with the data of one."""
    ids = run.choose_clients(clients)
    check_distinct(ids)
    if data is not None and len(ids) != 1:
        raise UsageError(f"--data: belongs to one client, found {len(ids)} in --id")
    return ids


def _result(
    session: Session, ids: Sequence[str], results: tuple[ClientResult, ...]
) -> TrainClientResult:
    run, round_ = session.run, session.round
    training = encode(session.training)
    if session.plan.initial_loss:
        training["initial_loss"] = True
    away = [client for client in ids if not run.client_shard(client).exists()]
    return TrainClientResult(
        round=round_.number,
        training=training,
        device=str(session.device),
        clients=results,
        send=tuple(path for client in away for path in files_of_client(run, round_, client)),
        may_send=tuple(path for client in away if (path := round_.telemetry(client)).exists()),
        awaits=files_of_round(run, round_) if away else (),
    )


def _train_each(
    session: Session,
    ids: Sequence[str],
    signing: Mapping[str, SigningKey],
    data: str | None,
    reading: Given,
) -> tuple[ClientResult, ...]:
    done: list[ClientResult] = []
    failed: list[FedcliError] = []
    for client in ids:
        own = replace(session, key=signing.get(client))
        try:
            done.append(train_one(own, client, data, reading))
        except (BadInputError, NotReadyError, ConflictError) as error:
            if len(ids) == 1:
                raise
            session.progress.say(f"client {client}: {error.message}")
            failed.append(error.amended(hint=error.hint, client=client))
    if failed:
        raise SeveralFailedError.together(failed, len(ids))
    return tuple(done)


def _drew_start(run: Run, ids: Sequence[str], own_model: str | None) -> bool:
    """Return whether clients that have trained nothing yet can draw the starting model here.

    It is only needed in a run with deltas, whose clients receive no whole model.
    """
    before = run.round(0)
    if not (before.delta.exists() and before.global_model.exists()):
        return False
    seen = {client for round_ in run.rounds() for client in round_.delivered()}
    return not seen.issuperset(ids) and is_drawn(run, own_model)
