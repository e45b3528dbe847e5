"""What to type next in a run: in a simulation, at the coordinator, or in a client's copy."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcli.masking.progress import MaskedProgress
from fedcli.remotes.awaiting import work_of
from fedcli.remotes.copying import read_copy
from fedcli.run import Run
from fedcli.run.next_command import (
    WAIT,
    aggregate_command,
    close_command,
    evaluate_command,
    push_command,
    sampling_words,
    train_command,
    unmask_command,
)
from fedcli.steps.deliveries import Deliveries


@dataclass(frozen=True)
class ClientStep:
    """What to type where the data of a client is."""

    client: str
    command: str


def next_step(now: Deliveries) -> str:
    """Return the command to type next in this directory."""
    if (mark := read_copy(now.run)) is not None:
        return work_of(now.run, mark.clients) or push_command(now.run)
    if (command := _at_hand(now)) is not None:
        return command
    if now.wanted and _meets_elsewhere(now):
        return now.run.command(f"pull --wait {WAIT}")
    return _wait(now) if now.wanted and not now.idle else _train(now, now.idle)


def _meets_elsewhere(now: Deliveries) -> bool:
    """Return whether updates come from the remote that the run names, and not from data here."""
    run, idle = now.run, now.idle
    has_data = any(run.client_shard(client).exists() for client in idle)
    return run.info.remote is not None and not has_data


def _at_hand(now: Deliveries) -> str | None:
    """Return the command that needs no further update; None if there is none."""
    latest = now.run.round(now.round.number - 1)
    if now.masked is not None and (now.masked.survivors or (now.delivered and not now.wanted)):
        return _masked_step(now.run, now.masked)
    if (now.delivered and not now.wanted) or now.buffer_is_full:
        return aggregate_command(now.run, sampling_words(now.run, now.plan))
    nobody = not now.delivered and not now.bad
    if nobody and latest.number > 0 and not latest.evaluation.exists():
        return evaluate_command(now.run)
    return None


def _masked_step(run: Run, masked: MaskedProgress) -> str:
    """Return what a round needs whose masked updates are there, or whose list is signed."""
    if masked.survivors is None:
        return close_command(run)
    return aggregate_command(run) if masked.is_ready else unmask_command(run, masked.waiting[0])


def _wait(now: Deliveries) -> str:
    if now.masked is not None:
        return close_command(now.run)
    return aggregate_command(now.run, f" --wait {WAIT}{sampling_words(now.run, now.plan)}")


def at_coordinator(now: Deliveries) -> str | None:
    """Return what to type meanwhile where updates arrive; None where that is not here."""
    if now.run.is_simulation or read_copy(now.run) is not None:
        return None
    return _at_hand(now) or _wait(now)


def _train(now: Deliveries, clients: Sequence[str]) -> str:
    """Return the command that trains clients; existing bad updates are to be replaced first."""
    unusable = set(now.bad)
    bad = [client for client in clients if client in unusable]
    if bad and now.run.client_shard(bad[0]).exists():
        return f"{train_command(now.run, bad, plan=now.plan)} --force"
    return train_command(now.run, clients, plan=now.plan)


def at_clients(now: Deliveries) -> tuple[ClientStep, ...]:
    """Return what to type where the data of each client is, where that is not here."""
    run = now.run
    if run.is_simulation or read_copy(run) is not None:
        return ()
    if now.masked is not None and now.masked.survivors is not None:
        waiting = () if now.masked.is_ready else now.masked.waiting
        return tuple(ClientStep(member, unmask_command(run, member)) for member in waiting)
    return tuple(ClientStep(client, train_command(run, [client])) for client in now.idle)
