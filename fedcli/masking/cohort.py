"""Who masks together, and the place in a run that every derived key is bound to."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.plan.secagg import check_threshold


@dataclass(frozen=True)
class MaskedRound:
    """The place of a masked sum: a run, a round, and which attempt at that round."""

    run: str
    round: int
    attempt: int

    def label(self, *parts: str) -> bytes:
        """Return this place as a part of a label; no part may contain ``|``."""
        return "|".join((self.run, str(self.round), str(self.attempt), *parts)).encode()


@dataclass(frozen=True)
class Cohort:
    """The members whose masks cancel, in client order, with their public X25519 keys.

    ``threshold`` is t, how many members must answer before a sum can be opened. Raises
    ``UsageError`` for fewer than three members and for t outside ⌊2n/3⌋ + 1 … n.
    """

    keys: Mapping[str, str]
    threshold: int
    where: MaskedRound

    def __post_init__(self) -> None:
        """Refuse cohorts without the promised privacy."""
        check_threshold(len(self.keys), self.threshold)

    @property
    def members(self) -> tuple[str, ...]:
        """The members, in client order."""
        return tuple(self.keys)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All pairs of members, each in client order."""
        return tuple(itertools.combinations(self.keys, 2))

    def number(self, member: str) -> int:
        """Return a member's number from 1, the point at which its shares are taken."""
        return self.members.index(member) + 1

    def ordered(self, one: str, other: str) -> tuple[str, str]:
        """Return two members in client order."""
        return (one, other) if self.number(one) < self.number(other) else (other, one)
