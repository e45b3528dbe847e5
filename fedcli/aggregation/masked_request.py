"""The request to ``aggregate`` in a run whose updates are masked: the opened sum of a round."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedcli.aggregation.masked_sum import open_sum
from fedcli.aggregation.noisy_sum import check_as_planned
from fedcli.aggregation.request import Request, read_request
from fedcli.errors import UsageError
from fedcli.masking.rounds import read_survivors
from fedcli.plan.rule import resolve
from fedcli.plan.secagg import check_maskable
from fedcli.progress import Progress
from fedcli.run import Run
from fedcli.run.round import Round

SUM = "sum"  # the partial mean's name, that of its file


def masked_request(
    run: Run,
    round_number: int | None,
    options: Mapping[str, Any] | None,
    force: bool,
    progress: Progress,
) -> Request:
    """Open the sum of a round, unless a global model was made from it, and ask for its mean.

    Raises ``UsageError`` for a rule that needs single updates, and what ``open_sum`` does.
    """
    if round_number is None:
        round_number = _round_meant(run).number
    request = read_request(run, round_number, options, (), ())
    check_maskable(replace(run.info.plan, aggregate=request.invitation.plan))
    check_as_planned(run, request.invitation.plan)
    _check_weights(run, request)
    round_ = request.invitation.round
    survivors = read_survivors(run, round_).survivors
    if force or not (round_.global_model.exists() and round_.masked_sum.exists()):
        open_sum(run, round_, round_.masked_sum, progress)
    late = [client for client in round_.delivered() if client not in survivors]
    invitation = replace(request.invitation, covered=frozenset(survivors), too_late=late)
    return replace(request, invitation=invitation, partials={SUM: round_.masked_sum})


def _check_weights(run: Run, request: Request) -> None:
    """Raise ``UsageError`` for other weights than those by which clients multiplied their steps."""
    planned, asked = resolve(run.info.plan.aggregate).weighting, request.rule.weighting
    if asked != planned:
        raise UsageError(
            f"--weighting: masked steps are weighted by the clients, as the run says: {planned},"
            f" not {asked}"
        )
    limits = run.info.plan.aggregate.limits
    if request.invitation.plan.limits != limits:
        raise UsageError(
            "--max-examples: nobody sees how many examples single masked updates have; the run has"
            f" {limits.get('max_examples', 'no limit')}"
        )


def _round_meant(run: Run) -> Round:
    """Return the open round or, if nobody has delivered for it, the last complete one."""
    now = run.open_round()
    return run.latest_round() if now.number > 1 and not now.delivered() else now
