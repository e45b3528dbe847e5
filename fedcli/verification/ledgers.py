"""Checks of what was spent: by private updates in ledgers, by noisy sums in manifests."""

from dataclasses import replace

from fedcli.errors import BadInputError, MissingDependencyError
from fedcli.formats.ledger import Ledger, LedgerEntry, PrivacyEvent
from fedcli.formats.metadata import Metadata
from fedcli.run.info import client_order, is_client_id
from fedcli.run.ledgers import LedgerStore
from fedcli.run.spending import PrivacyStatus, privacy_status
from fedcli.verification.findings import Problem, Section
from fedcli.verification.survey import Survey


def check_ledgers(survey: Survey) -> None:
    """Check the ledgers in the run against the updates that were read.

    A ledger may have more: what was replaced, and what other runs spent.
    """
    here = filter(is_client_id, LedgerStore(survey.run).holders())
    for client in client_order({*survey.private, *here}):
        _check_ledger(survey, client, survey.private.get(client, []))


def check_noisy_rounds(survey: Survey) -> None:
    """Check that the manifest of each round that protects its clients lists what that spent."""
    for number, manifest in survey.manifests.items():
        own = [one for one in manifest.privacy if (one.run, one.round) == (survey.run.id, number)]
        if manifest.client_level.get("update_noise") and not own:
            path = survey.run.round(number).manifest
            survey.add(Problem.CHANGED, path, "lists nothing that its noisy sum has spent")


def spent_so_far(survey: Survey) -> PrivacyStatus | None:
    """Return what the run has spent; None if nothing is private, or its ε cannot be computed."""
    sums = any(manifest.privacy for manifest in survey.manifests.values())
    if not (sums or survey.private):
        return None
    try:
        return privacy_status(survey.run)
    except MissingDependencyError as error:
        path = survey.run.root / "run.json"
        survey.add(Problem.NOTE, path, f"is private; ε is not computed: {error.message}")
    except BadInputError:
        pass  # which is a finding already
    return None


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
