"""Checks of ledgers: each holds what the private updates of its client have spent."""

from dataclasses import replace

from fedcli.formats.ledger import Ledger, LedgerEntry, PrivacyEvent
from fedcli.formats.metadata import Metadata
from fedcli.run.info import client_order, is_client_id
from fedcli.run.ledgers import LedgerStore
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Survey


def check_ledgers(survey: Survey) -> None:
    """Check the ledgers in the run against the updates that were read.

    A ledger may have more: what was replaced, and what other runs spent.
    """
    here = filter(is_client_id, LedgerStore(survey.run).holders())
    for client in client_order({*survey.private, *here}):
        _check_ledger(survey, client, survey.private.get(client, []))


def _check_ledger(survey: Survey, client: str, updates: list[Metadata]) -> None:
    path = LedgerStore(survey.run).path(client)
    missing = (Problem.MISSING, "is not in the run: deleted, or in a folder of the client's own")
    ledger = survey.record(Section.LEDGERS, path, Ledger, missing)
    if ledger is None:
        return
    for update in updates:
        if not any(_pays(entry, update) for entry in ledger.entries):
            spent = survey.name(survey.run.round(update.round or 0).update(client))
            survey.add(Problem.CHANGED, path, f"lacks what {spent} spent")


def _pays(entry: LedgerEntry, update: Metadata) -> bool:
    """Return whether an entry is of an update, which names no more than an upper bound of q."""
    public = update.training.privacy
    return (
        public is not None
        and (entry.run, entry.round) == (update.run, update.round)
        and _within(entry.event, public)
    )


def _within(event: PrivacyEvent, public: PrivacyEvent) -> bool:
    return replace(event, q=public.q) == public and event.q <= public.q
