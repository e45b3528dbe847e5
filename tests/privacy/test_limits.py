"""A limit refuses what would pass it, to the last digit, and never a step that is paid."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.private import gaussian

from fedcli.errors import BudgetError, ConflictError
from fedcli.formats.ledger import Ledger, LedgerEntry
from fedcli.privacy import PrivacyLimit, epsilon_at

ENTRY = LedgerEntry("run", 1, 1, "a" * 64, gaussian(5))
SPENT = Ledger(tuple(replace(ENTRY, round=number) for number in range(1, 10)))
NEXT = replace(ENTRY, round=10)
WHOLE = epsilon_at([gaussian(5, 10)], 1e-5)
PATH = Path("privacy/0.json")


def test_what_just_fits_is_allowed() -> None:
    PrivacyLimit(WHOLE, 1e-5).check(SPENT, [NEXT], path=PATH)


def test_what_would_pass_it_is_refused_with_the_numbers_and_the_way_out() -> None:
    limit = PrivacyLimit(2.5, 1e-5)
    with pytest.raises(BudgetError) as caught:
        limit.check(SPENT, [NEXT], path=PATH, client="0")
    assert caught.value.message == (
        "privacy/0.json: this step would spend ε = 2.594 in all at δ = 1e-05, more than"
        " --max-epsilon 2.5; 2.445 is spent"
    )
    assert "raise --max-epsilon" in str(caught.value.hint)
    assert (caught.value.client, caught.value.path) == ("0", PATH)
    assert (caught.value.kind, caught.value.status) == ("budget", ConflictError.status)


def test_a_step_that_is_paid_is_never_refused() -> None:
    PrivacyLimit(0.001, 1e-5).check(SPENT, SPENT.entries[3:5], path=PATH)


def test_the_option_is_named_that_sets_it() -> None:
    with pytest.raises(BudgetError, match="more than --update-max-epsilon 1"):
        PrivacyLimit(1.0, 1e-5, "--update-max-epsilon").check(SPENT, [NEXT], path=PATH)
