"""Take the masks off a sum, with the shares that t members gave.

For a member whose update is in the sum, they give shares of its own seed; for one whose update is
not, shares of the seeds of its pairs. Both kinds for one member would show its update to whoever
reads them, so nobody ever gives both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fedcli.errors import BadInputError, NotReadyError
from fedcli.masking.cohort import Cohort
from fedcli.masking.masks import Mask, pair_mask
from fedcli.masking.pairwise import seed_label
from fedcli.masking.secrets import Secret
from fedcli.masking.shamir import join
from fedcli.masking.shares import OpenedShares


@dataclass(frozen=True)
class Answer:
    """The shares that one member gives to open a sum.

    ``own`` has its share of b_i by the survivor i, ``pairs`` of s_ij by survivor i and missing j.
    """

    member: str
    own: Mapping[str, int] = field(repr=False)
    pairs: Mapping[str, Mapping[str, int]] = field(repr=False)


def missing_members(cohort: Cohort, survivors: Collection[str]) -> list[str]:
    """Return the members whose updates are not in the sum, in client order."""
    return [member for member in cohort.members if member not in survivors]


def check_survivors(cohort: Cohort, survivors: Collection[str]) -> None:
    """Raise ``BadInputError`` for a list of strangers, ``NotReadyError`` for one below t."""
    strangers = sorted(set(survivors) - set(cohort.members))
    if strangers:
        raise BadInputError(f"names {strangers[0]!r}, who is not a member of this round")
    if len(survivors) < cohort.threshold:
        raise NotReadyError(
            f"{len(survivors)} masked updates, expected at least {cohort.threshold}: the sum of"
            " fewer is not shown",
            hint="wait for more updates",
        )


def answer(cohort: Cohort, member: str, opened: Mapping[str, OpenedShares]) -> Answer:
    """Return one member's answer to the list of those whose shares it opened.

    Raises what ``check_survivors`` does.
    """
    check_survivors(cohort, opened)
    missing = missing_members(cohort, opened)
    return Answer(
        member,
        {i: shares.by_member[i] for i, shares in opened.items()},
        {i: {j: shares.by_member[j] for j in missing} for i, shares in opened.items()},
    )


def masks_to_remove(
    cohort: Cohort, committed: Mapping[str, Mapping[str, str]], answers: Sequence[Answer]
) -> list[Mask]:
    """Return the masks whose addition to the sum of the survivors' vectors opens it.

    ``committed`` has the commitments of every survivor, by survivor and member. Raises
    ``NotReadyError`` for fewer than t answers, and ``BadInputError`` for answers that do not give
    the seeds that the survivors committed to.
    """
    check_survivors(cohort, committed)
    if len(answers) < cohort.threshold:
        raise NotReadyError(
            f"{len(answers)} members have answered, expected {cohort.threshold}",
            hint="fedcli unmask --id K gives the answer of member K",
        )
    missing = missing_members(cohort, committed)
    found = []
    for i, promised in committed.items():
        own = {cohort.number(a.member): a.own[i] for a in answers}
        found.append(Mask(_seed(cohort, i, i, own, promised), negative=True))
        for j in missing:
            pair = {cohort.number(a.member): a.pairs[i][j] for a in answers}
            seed = _seed(cohort, i, j, pair, promised)
            found.append(pair_mask(cohort, i, j, seed).inverse)
    return found


def _seed(
    cohort: Cohort, owner: str, other: str, shares: Mapping[int, int], promised: Mapping[str, str]
) -> Secret:
    """Return a seed from its shares; raise ``BadInputError`` if its owner committed to another."""
    try:
        seed = join(shares, cohort.threshold)
    except ValueError:
        seed = None
    if seed is None or seed.commitment(seed_label(cohort, owner, other)) != promised[other]:
        givers = ", ".join(cohort.members[x - 1] for x in sorted(shares)[: cohort.threshold])
        raise BadInputError(
            f"the shares of the mask of client {owner} do not give the seed that it committed to:"
            f" it, or one of {givers}, gave a wrong one",
            hint="repeat the round without the member at fault",
            client=owner,
        )
    return seed
