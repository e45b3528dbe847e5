"""The seeds of masks: one for each pair of members, and one of the member's own."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.masking.cohort import Cohort
from fedcli.masking.keys import MaskingKey
from fedcli.masking.secrets import Secret


@dataclass(frozen=True)
class Agreement:
    """What one member and each other one know alone: K_ij, by member; and the member's own key.

    A member agrees with itself too, so that it can seal a share for itself.
    """

    cohort: Cohort
    member: str
    own: Secret
    with_others: Mapping[str, Secret]

    @classmethod
    def of(cls, cohort: Cohort, member: str, key: MaskingKey) -> "Agreement":
        """Agree with every member of the cohort. Raises what ``MaskingKey.agree`` does."""
        agreed = {other: key.agree(public, other) for other, public in cohort.keys.items()}
        return cls(cohort, member, key.own, agreed)

    def pair_seed(self, other: str) -> Secret:
        """Return s_ij, equal for both: HKDF(K_ij, "mask" ‖ run ‖ round ‖ attempt ‖ min ‖ max)."""
        low, high = self.cohort.ordered(self.member, other)
        return self.with_others[other].derive("mask", self.cohort.where.label(low, high))

    def seeds(self, digest: str) -> "Seeds":
        """Return all seeds of a vector with this SHA-256, hex.

        The own seed b_i depends on the vector: two different vectors never get the same mask, and
        the same vector gets the same bytes.
        """
        own = self.own.derive("self", self.cohort.where.label(digest))
        others = (other for other in self.cohort.members if other != self.member)
        return Seeds(own, {other: self.pair_seed(other) for other in others})


@dataclass(frozen=True)
class Seeds:
    """The seeds of one masked vector: ``own`` is b_i, ``pairs`` are s_ij by the other member."""

    own: Secret
    pairs: Mapping[str, Secret]

    def of(self, cohort: Cohort, member: str) -> list[Secret]:
        """Return the seeds in client order; the member's own stands in its own place."""
        return [self.own if other == member else self.pairs[other] for other in cohort.members]


def seed_label(cohort: Cohort, one: str, other: str) -> bytes:
    """Return the label of a seed's commitment: of a pair or, for one member twice, its own."""
    low, high = cohort.ordered(one, other) if one != other else (one, one)
    return cohort.where.label(low, high)
