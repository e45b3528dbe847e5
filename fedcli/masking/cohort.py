"""Who masks together, and the place in a run that every derived key is bound to."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.errors import UsageError

FEWEST_MEMBERS = 3  # of two members, each learns the other's update from the sum


def least_threshold(members: int) -> int:
    """Return the least t for which two sets of t honest answers to two lists cannot exist.

    Two sets of t > 2n/3 members share more than n/3 of them, and an honest one answers once.
    """
    return 2 * members // 3 + 1


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


def check_threshold(members: int, threshold: int) -> None:
    """Raise ``UsageError`` unless a cohort of this size is private with this threshold."""
    if members < FEWEST_MEMBERS:
        raise UsageError(
            f"--secagg: expected at least {FEWEST_MEMBERS} clients, found {members}; the sum of two"
            " shows each the update of the other"
        )
    least = least_threshold(members)
    if not least <= threshold <= members:
        raise UsageError(
            f"--threshold: expected {least} … {members} of {members} clients, found {threshold}",
            hint=f"--threshold {least} needs the fewest answers",
        )
