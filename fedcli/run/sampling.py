"""Sampling of the clients of a round: a pure function of the run's seed and the round."""

import math

from fedcli.errors import UsageError
from fedcli.plan import AggregatePlan
from fedcli.randomness import stream
from fedcli.run.info import RunInfo, client_order


def is_sampled(plan: AggregatePlan) -> bool:
    """Return whether only a sample of the clients takes part in a round."""
    return plan.clients_per_round is not None or plan.fraction is not None


def sample_size(plan: AggregatePlan, total: int) -> int:
    """Return how many of ``total`` clients take part in a round."""
    if plan.fraction is not None:
        return max(1, math.floor(plan.fraction * total + 0.5))
    return plan.clients_per_round or total


def sampled_clients(
    info: RunInfo, round_number: int, plan: AggregatePlan | None = None
) -> tuple[str, ...]:
    """Return the clients of a round in client order, drawn without replacement.

    McMahan et al. 2017, algorithm 1: ``max(C·K, 1)`` of K clients, C·K rounded to the nearest.
    Returns all clients if the plan (by default the run's) does not sample. Raises ``UsageError`` if
    it asks for more than there are, or if the run has no list of clients.
    """
    plan = plan or info.plan.aggregate
    if not is_sampled(plan):
        return info.clients
    total = len(info.clients)
    if not total:
        raise UsageError(
            "--clients-per-round, --fraction: this run was made without a list of clients to"
            " sample from"
        )
    count = sample_size(plan, total)
    if count > total:
        raise UsageError(f"--clients-per-round: expected at most {total}, found {count}")
    chosen = stream(info.seed, "sampling", round_number).choice(total, count, replace=False)
    return tuple(client_order(info.clients[index] for index in chosen))
