"""Limits: a step whose events would pass one is refused before it writes anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedcli.errors import BudgetError
from fedcli.formats.ledger import Ledger, LedgerEntry
from fedcli.privacy.accountant import epsilon_at


@dataclass(frozen=True)
class PrivacyLimit:
    """The largest ε at δ that may be spent; ``option`` is where it is set."""

    epsilon: float
    delta: float
    option: str = "--max-epsilon"

    def check(
        self, spent: Ledger, more: Iterable[LedgerEntry], *, path: Path, client: str | None = None
    ) -> None:
        """Raise ``BudgetError`` if a step that adds ``more`` to what was spent would pass it.

        A step that is in the ledger already costs nothing. ``path`` is the file that says what was
        spent. Raises ``MissingDependencyError`` as ``epsilon_at``.
        """
        after = spent.merged(more)
        if after == spent.merged(()):
            return
        if (found := epsilon_at(after.events, self.delta)) <= self.epsilon:
            return
        already = epsilon_at(spent.events, self.delta)
        raise BudgetError(
            f"this step would spend ε = {found:.4g} in all at δ = {self.delta:g}, more than"
            f" {self.option} {self.epsilon:g}; {already:.4g} is spent",
            hint=f"stop here, or raise {self.option} if that protects enough; a run that starts"
            " with more noise can take more steps",
            path=path,
            client=client,
        )
