"""Replay the models and updates of a run, round after round."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from fedcli.errors import FedcliError
from fedcli.formats.telemetry import Telemetry
from fedcli.run.info import client_order
from fedcli.run.round import Round
from fedcli.user_code import load_attribute
from fedcli.verification.findings import FileCount, Problem
from fedcli.verification.replay_aggregation import replay_aggregation
from fedcli.verification.replay_sandbox import CannotReplayError, DifferenceError, UserCode
from fedcli.verification.survey import Survey


def replay(survey: Survey, rounds: Sequence[Round], own: UserCode) -> tuple[FileCount, ...]:
    """Replay every model and update; report what differs and what cannot be replayed.

    Raises ``UsageError`` for user code that cannot be imported, ``StorageError`` and
    ``OutOfMemoryError``.
    """
    for option, name in (("--model", own.model), ("--reduce", own.reduce)):
        if name is not None and ":" in name:
            load_attribute(name, option)
    updates = [(round_, client) for round_ in rounds for client in _trained(survey, round_)]
    models = [round_ for round_ in rounds if round_.number in survey.manifests]
    survey.progress.start("replaying", len(models) + len(updates))
    return (
        _part("aggregated again", [_aggregation(survey, round_, own) for round_ in models]),
        _part("trained again", [_training(survey, *update, own) for update in updates]),
    )


def _part(what: str, outcomes: Sequence[Problem | None]) -> FileCount:
    missing, changed = outcomes.count(Problem.NOT_REPLAYED), outcomes.count(Problem.DIFFERS)
    return FileCount(what, len(outcomes), len(outcomes) - missing - changed, missing, changed)


def _trained(survey: Survey, round_: Round) -> list[str]:
    """Return the clients whose update of a round counts or may count, even if it is missing."""
    clients = client_order([*round_.delivered(), *survey.accepted[round_.number]])
    return [client for client in clients if not survey.is_rejected(round_.update(client))]


def _aggregation(survey: Survey, round_: Round, own: UserCode) -> Problem | None:
    manifest = survey.manifests[round_.number]
    return _attempt(
        survey, round_.global_model, lambda: replay_aggregation(survey.run, round_, manifest, own)
    )


def _training(survey: Survey, round_: Round, client: str, own: UserCode) -> Problem | None:
    run, path = survey.run, round_.update(client)

    def train() -> None:
        if not path.exists():
            raise CannotReplayError("was deleted")
        if not run.client_shard(client).exists():
            raise CannotReplayError(f"the examples of client {client} are not in the run")
        from fedcli.verification.replay_training import replay_training  # imports torch

        try:
            replay_training(run, round_, client, own)
        except DifferenceError as error:
            raise DifferenceError(error.path, f"{error}{_elsewhere(round_, client)}") from None

    return _attempt(survey, path, train)


def _attempt(survey: Survey, path: Path, make: Callable[[], None]) -> Problem | None:
    try:
        make()
    except CannotReplayError as reason:
        survey.add(Problem.NOT_REPLAYED, path, f"cannot be replayed: {reason}")
        return Problem.NOT_REPLAYED
    except DifferenceError as difference:
        survey.add(Problem.DIFFERS, difference.path, str(difference))
        return Problem.DIFFERS
    finally:
        survey.progress.advance()
    return None


def _elsewhere(round_: Round, client: str) -> str:
    """Return a remark if the client trained on another machine, else an empty string."""
    try:
        telemetry = Telemetry.read(round_.telemetry(client))
    except FedcliError:
        return ""
    if telemetry is None or telemetry.host in (None, socket.gethostname()):
        return ""
    return f"; it was trained on {telemetry.host}, and other machines may round differently"
