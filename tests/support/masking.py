"""Members of a secure aggregation, with keys that a test can make again."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcli.formats.public_key import MASKING_PREFIX, public_line
from fedcli.masking.cohort import Cohort, MaskedRound
from fedcli.masking.keys import MaskingKey
from fedcli.masking.masks import Integers, Masked, mask
from fedcli.masking.pairwise import Agreement
from fedcli.masking.shares import SealedShares, seal, unseal
from fedcli.masking.unmasking import Answer, answer
from fedcli.plan.secagg import least_threshold

WHERE = MaskedRound("0" * 64, 1, 1)


def private_bytes(member: str) -> bytes:
    return hashlib.sha256(member.encode()).digest()


def masking_key(raw: bytes) -> MaskingKey:
    private = X25519PrivateKey.from_private_bytes(raw)
    public = public_line(MASKING_PREFIX, private.public_key().public_bytes_raw())
    return MaskingKey(Path("member.key"), public, private)


class Members:
    """All members of a cohort, whose secrets only a test holds together."""

    def __init__(self, names: list[str], where: MaskedRound = WHERE, threshold: int = 0) -> None:
        keys = {name: masking_key(private_bytes(name)) for name in names}
        self.cohort = Cohort(
            {name: key.public for name, key in keys.items()},
            threshold or least_threshold(len(names)),
            where,
        )
        self.agreements = {n: Agreement.of(self.cohort, n, key) for n, key in keys.items()}
        self.masked: dict[str, Masked] = {}
        self.sealed: dict[str, SealedShares] = {}

    def deliver(self, vectors: dict[str, Integers]) -> None:
        for name, values in vectors.items():
            agreement = self.agreements[name]
            self.masked[name] = mask(agreement, values)
            self.sealed[name] = seal(agreement, self.masked[name].seeds, self.sha256(name))

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.masked[name].words.tobytes()).hexdigest()

    def answer(self, name: str, survivors: list[str]) -> Answer:
        opened = {
            i: unseal(self.agreements[name], i, self.sha256(i), self.sealed[i].sealed[name])
            for i in survivors
        }
        return answer(self.cohort, name, opened)
