"""What opened sums spend, and a limit that holds before anybody masks for another one.

Once members have answered, anybody can open a sum. So a round that would pass the limit of the run
is refused to the member that trains for it, and to the coordinator that closes it.
"""

import hashlib

from fedcli.formats.ledger import LedgerEntry
from fedcli.formats.manifest import Manifest
from fedcli.masking.rounds import FIRST_ATTEMPT, noise_of
from fedcli.plan.client_level import ClientPrivacy
from fedcli.run import Run
from fedcli.run.ledgers import check_sums
from fedcli.run.round import Round
from fedcli.run.sampling import sample_size


def check_limit(run: Run, round_: Round, values: int) -> None:
    """Raise ``BudgetError`` if a round of so many values would pass the limit of the run.

    Rounds whose manifest is not here, as at a client, count as planned. Raises also what
    ``check_sums`` does.
    """
    rule, noise = run.info.plan.aggregate, noise_of(run)
    how = ClientPrivacy.of(rule, sample_size(rule, len(run.info.clients)))
    if noise is None or how is None or rule.privacy_limit is None:
        return
    event, unseen = noise.event(how, values), range(1, round_.number + 1)
    planned = [
        LedgerEntry(run.id, number, FIRST_ATTEMPT, _placeholder(run, number), event)
        for number in unseen
        if not _is_listed(run.round(number))
    ]
    check_sums(run, planned, rule.privacy_limit)


def _is_listed(round_: Round) -> bool:
    manifest = Manifest.try_read(round_.manifest)
    return manifest is not None and bool(manifest.privacy)


def _placeholder(run: Run, number: int) -> str:
    """Return what stands for the inputs of a sum that is not known here."""
    return hashlib.sha256(f"{run.id} {number}".encode()).hexdigest()
