"""The files that clients and coordinator exchange if they have no directory in common."""

from pathlib import Path

from fedcli.algorithms import ALGORITHMS
from fedcli.run.directory import Run
from fedcli.run.round import Round
from fedcli.strategies import STRATEGIES


def files_of_client(run: Run, round_: Round, client: str) -> tuple[Path, ...]:
    """Return what a client sends: its update, which is to arrive after its signature."""
    signature = (round_.signature(client),) if run.info.members else ()
    shares = (round_.shares(client),) if run.info.plan.secagg is not None else ()
    return (*signature, *shares, round_.update(client))


def files_of_round(
    run: Run, round_: Round, server_optimizer: str | None = None
) -> tuple[Path, ...]:
    """Return what clients need to start from a round: its model, which is to arrive last.

    ``server_optimizer`` is that of the round; None if it is yet to be aggregated by the plan.
    """
    signature = (round_.global_signature,) if run.info.coordinator is not None else ()
    model = model_to_send(run, round_)
    if round_.number == 0:
        return (run.root / "run.json", *signature, model)
    reads = clients_read_state(run, server_optimizer)
    state = (round_.server_state, round_.manifest) if reads else ()
    return (*signature, *state, model)


def model_to_send(run: Run, round_: Round) -> Path:
    """Return the file from which a client gets a round's model: its delta, if there is one."""
    planned = bool(run.info.plan.aggregate.downlink) and round_.number > 0
    missing = not round_.global_model.exists()
    return round_.delta if round_.delta.exists() or (planned and missing) else round_.global_model


def clients_read_state(run: Run, server_optimizer: str | None = None) -> bool:
    """Return whether the clients' algorithm reads what the server keeps after a round."""
    if server_optimizer is None:
        return ALGORITHMS[run.info.plan.train.algorithm].reads is not None
    readers = [row for row in ALGORITHMS.values() if row.reads is not None]
    return server_optimizer in {STRATEGIES[row.strategy].server_optimizer for row in readers}
