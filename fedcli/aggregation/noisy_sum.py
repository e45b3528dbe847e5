"""An opened sum of masked updates, to which every member has added its part of the noise."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.round_privacy import RoundPrivacy
from fedcli.aggregation.updates import Update
from fedcli.errors import UsageError
from fedcli.formats.ledger import LedgerEntry
from fedcli.masking.rounds import FIRST_ATTEMPT
from fedcli.options import option_of
from fedcli.plan import AggregatePlan
from fedcli.run import Run
from fedcli.storage.atomic import canonical_json
from fedcli.strategies.decision import LinearDecision, Shares

_SETTLED = ("update_clip", "update_noise", "adaptive_clip")  # before a member trains


def check_as_planned(run: Run, rule: AggregatePlan) -> None:
    """Raise ``UsageError`` for another C or σ than members have applied already."""
    planned = run.info.plan.aggregate
    for name in _SETTLED:
        expected, found = getattr(planned, name), getattr(rule, name)
        if expected != found:
            raise UsageError(
                f"{option_of(name)}: members of a masked run shorten their steps and add noise as"
                f" the run's plan says: expected {expected}, found {found}",
                hint=f"leave {option_of(name)} out",
            )


def mean_of_sum(divisor: float, updates: Sequence[Update]) -> LinearDecision:
    """Return the decision x + Σ/D for partial means Σ/n of n clients."""
    counts = [float(update.contributor.clients) for update in updates]
    return LinearDecision(Shares(np.array(counts), divisor))


def spent_by_sum(
    privacy: RoundPrivacy, base: Base, updates: Sequence[Update]
) -> tuple[LedgerEntry, ...]:
    """Return what an opened sum spends; nothing if steps were not even shortened.

    Its noise is in it, whatever is done with it, so that only the sum itself is an input.
    """
    if privacy.noise is None:
        return ()
    values = {"base": base.sha256, "sums": [one.digest() for one in updates]}
    inputs = hashlib.sha256(canonical_json(values)).hexdigest()
    coordinates = sum(math.prod(base.layout[name].shape) for name in base.parameters())
    event = privacy.noise.event(privacy.how, coordinates)
    return (LedgerEntry(base.run.id, base.round.number, FIRST_ATTEMPT, inputs, event),)
