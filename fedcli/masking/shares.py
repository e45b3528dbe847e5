"""Shares of a member's seeds, sealed so that each reaches one member only.

ChaCha20-Poly1305 (RFC 8439, section 2.8) under HKDF(K_ik, "share" ‖ run ‖ round ‖ attempt ‖ i ‖ k ‖
SHA-256 of the masked update): a key for one message, so the nonce is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedcli.errors import BadInputError
from fedcli.masking.cohort import Cohort
from fedcli.masking.pairwise import Agreement, Seeds, seed_label
from fedcli.masking.shamir import SHARE_BYTES, decode_share, encode_share, split
from fedcli.security.key_files import cryptography

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NONCE = bytes(12)


@dataclass(frozen=True)
class SealedShares:
    """What travels with a masked update.

    ``sealed`` has the sealed shares by the member who can open them, and ``commitments`` the
    SHA-256s, hex, of the seeds, by the other member of the pair; the own one under the own name.
    """

    sealed: Mapping[str, bytes]
    commitments: Mapping[str, str]


@dataclass(frozen=True)
class OpenedShares:
    """One member's shares of the seeds of another one, ``owner``.

    ``by_member`` has the share of s_ij under j, and that of b_i under i.
    """

    owner: str
    by_member: Mapping[str, int] = field(repr=False)


def seal(agreement: Agreement, seeds: Seeds, sha256: str) -> SealedShares:
    """Split every seed t of n ways, and seal the shares of each member.

    ``sha256`` is the digest, hex, of the masked update, which no two updates have in common.
    """
    cohort, owner = agreement.cohort, agreement.member
    points = range(1, len(cohort.members) + 1)
    table = [
        split(seed, cohort.threshold, points, agreement.own, cohort.where.label(owner, j, sha256))
        for j, seed in zip(cohort.members, seeds.of(cohort, owner), strict=True)
    ]
    plain = {
        k: b"".join(map(encode_share, one))
        for k, one in zip(cohort.keys, zip(*table, strict=True), strict=True)
    }
    sealed = {
        k: _cipher(agreement, owner, k, sha256).encrypt(_NONCE, data, _associated(cohort, owner, k))
        for k, data in plain.items()
    }
    return SealedShares(sealed, commitments(cohort, owner, seeds))


def commitments(cohort: Cohort, owner: str, seeds: Seeds) -> dict[str, str]:
    """Return the commitments to the seeds of a member."""
    named = zip(cohort.members, seeds.of(cohort, owner), strict=True)
    return {j: seed.commitment(seed_label(cohort, owner, j)) for j, seed in named}


def unseal(agreement: Agreement, owner: str, sha256: str, sealed: bytes) -> OpenedShares:
    """Open the shares that ``owner`` sealed for this member with an update of this SHA-256.

    Raises ``BadInputError`` for shares of somebody else, of another round, or changed ones.
    """
    with cryptography():
        from cryptography.exceptions import InvalidTag
    cohort = agreement.cohort
    associated = _associated(cohort, owner, agreement.member)
    cipher = _cipher(agreement, owner, agreement.member, sha256)
    try:
        plain = cipher.decrypt(_NONCE, sealed, associated)
        parts = [plain[at : at + SHARE_BYTES] for at in range(0, len(plain), SHARE_BYTES)]
        found = dict(zip(cohort.members, map(decode_share, parts), strict=True))
    except (InvalidTag, ValueError):
        raise BadInputError(
            f"the shares of client {owner} for client {agreement.member} cannot be opened: they"
            " were changed, or made for another member, round or attempt, or with another key",
            hint=f"ask client {owner} for its files again",
            client=owner,
        ) from None
    return OpenedShares(owner, found)


def _associated(cohort: Cohort, owner: str, member: str) -> bytes:
    return cohort.where.label(owner, member)


def _cipher(agreement: Agreement, owner: str, member: str, sha256: str) -> "ChaCha20Poly1305":
    with cryptography():
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    other = member if owner == agreement.member else owner
    label = agreement.cohort.where.label(owner, member, sha256)
    return ChaCha20Poly1305(agreement.with_others[other].derive("share", label).value)
