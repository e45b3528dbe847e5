"""Replay a client's training as its update records it, and compare the bytes."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from fedcli.client.existing_update import fingerprint
from fedcli.client.train import train_client
from fedcli.datasets.shards import read_shard
from fedcli.errors import FedcliError, OutOfMemoryError, StorageError, UsageError
from fedcli.formats.checkpoint import Checkpoint, digest
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.records import encode
from fedcli.formats.training_record import TrainingRecord
from fedcli.plan import TrainPlan
from fedcli.plan.execution import Execution
from fedcli.run import Run
from fedcli.run.round import Round
from fedcli.security.examples_key import ExamplesKey
from fedcli.text import brief
from fedcli.training.devices import choose_device
from fedcli.verification.replay_sandbox import (
    CannotReplayError,
    DifferenceError,
    UserCode,
    compare,
    sandbox,
)

_MOST_THREADS = 1024


def replay_training(run: Run, round_: Round, client: str, own: UserCode) -> None:
    """Train a client again on the examples of its shard, and compare update and state.

    Raises ``CannotReplayError``, ``DifferenceError``, ``OutOfMemoryError`` and ``StorageError``.
    """
    path, masked = round_.update(client), run.info.plan.secagg is not None
    if masked and not run.member_key(client).exists():
        raise CannotReplayError(
            "it is masked; its member gets the same bytes with train-client --force"
        )
    try:
        with Checkpoint(path, Kind.UPDATE) as update:
            found = update.metadata
        _check_here(run, round_, client, found.training, own)
        _check_states(run, round_, client, found.training)
    except (StorageError, CannotReplayError):
        raise
    except FedcliError as error:
        raise CannotReplayError(error.about(path)) from None
    plan = {**run.info.plan.as_json(), "train": _plan(run.info.plan.train, found.training)}
    with sandbox(run, round_, path, plan, ["data", "keys"], signed=masked) as copy:
        _train(copy, round_, client, found, own)
        made = copy.round(round_.number)
        compare(path, made.update(client), Kind.UPDATE)
        shares = round_.shares(client)
        if shares.exists() and digest(made.shares(client)) != digest(shares):
            raise DifferenceError(shares, "differs when replayed")
        state, again = round_.client_state(client), made.client_state(client)
        if state.exists() and again.exists():
            compare(state, again, Kind.CLIENT_STATE)


def _check_here(
    run: Run, round_: Round, client: str, training: TrainingRecord, own: UserCode
) -> None:
    """Raise ``CannotReplayError`` if this machine lacks something that the training needs."""
    if run.info.model.is_users_own and own.model != run.info.model.name:
        raise CannotReplayError(f"it was trained with {run.info.model.name}; give it with --model")
    _check_noise_key(training, own)
    device, micro_batch = training.device, training.micro_batch
    if device is None or not 1 <= (training.threads or 0) <= _MOST_THREADS:
        raise CannotReplayError("does not say on which device, and with how many threads")
    if micro_batch is not None and micro_batch < 1:
        raise CannotReplayError(f"micro_batch: expected 1 or more, found {micro_batch}")
    try:
        choose_device(device)
    except UsageError:
        raise CannotReplayError(f"was trained on {device}, which is not here") from None
    shard = run.client_shard(client)
    if not shard.exists():
        raise CannotReplayError(f"the examples of client {client} are not in the run")
    plain = fingerprint(read_shard(shard, run))
    keyed = ExamplesKey.of_simulation(run.id).digest(run.id, round_.number, client, plain)
    if training.examples == plain:
        raise CannotReplayError("was made by a fedcli that names examples by another digest")
    if training.examples != keyed:
        raise CannotReplayError(
            f"was trained on other examples than those of {shard.name}, or on data of the client's"
            " own, which only it can recognise"
        )


def _check_noise_key(training: TrainingRecord, own: UserCode) -> None:
    if training.noise_key is None:
        return
    if own.noise_key is None:
        raise CannotReplayError("it needs the noise key that it was trained with; see --noise-key")
    if own.noise_key.commitment != training.noise_key:
        raise CannotReplayError("it was trained with another noise key than that of --noise-key")


def _check_states(run: Run, round_: Round, client: str, training: TrainingRecord) -> None:
    """Raise ``CannotReplayError`` if the training started from a file that is not in the run."""
    before = run.round(round_.number - 1)
    if not before.global_model.exists():
        raise CannotReplayError(f"the global model of round {before.number} is not in the run")
    if training.server_state is not None and not before.server_state.exists():
        raise CannotReplayError(f"the server's state of round {before.number} is not in the run")
    states = training.started_from
    known = {
        digest(path)
        for earlier in run.rounds()
        if states and (path := earlier.client_state(client)).exists()
    }
    if not known.issuperset(states):
        raise CannotReplayError(f"the state that client {client} started from is not in the run")


def _plan(planned: TrainPlan, training: TrainingRecord) -> dict[str, Any]:
    """Return the training that an update records, as section ``train`` of a plan.

    Numbers of steps that are withheld are those of the run's plan.
    """
    names = {field.name for field in fields(TrainPlan)}
    plan = {key: value for key, value in encode(training).items() if key in names}
    if "epochs" in plan:  # else this many steps were asked for
        plan.pop("steps", None)
    elif planned.steps is not None:
        plan.setdefault("steps", planned.steps)
    return {**plan, "initial_loss": training.initial_loss is not None}


def _noise_key(training: TrainingRecord, own: UserCode) -> Path | None:
    if training.noise_key is None or own.noise_key is None:
        return None
    return own.noise_key.path


def _train(copy: Run, round_: Round, client: str, found: Metadata, own: UserCode) -> None:
    training = found.training
    execution = Execution(
        device=training.device or "auto",
        threads=training.threads,
        micro_batch=training.micro_batch,
        compile=training.compile,
    )
    try:
        train_client(
            copy,
            [client],
            round_number=round_.number,
            execution=execution,
            seed=found.seed,
            own_model=own.model,
            noise_key=_noise_key(training, own),
        )
    except (StorageError, OutOfMemoryError):
        raise
    except (FedcliError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        # a file may record anything, and torch raises errors of all kinds
        said = error.message if isinstance(error, FedcliError) else str(error)
        message = f"cannot be replayed: {brief(said.replace(f'{copy.root}/', ''))}"
        raise DifferenceError(round_.update(client), message) from None
