"""What was spent of a privacy budget: events, and the ledger that collects them.

Files hold events and never ε: ε belongs to all events together, and to a δ. ``fedcli.privacy``
computes it.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from fedcli.formats.records import Allowed, Count, FileRecord, encode
from fedcli.storage.atomic import canonical_json
from fedcli.text import brief

_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
Digest = Annotated[
    str, Allowed(lambda text: bool(_DIGEST.fullmatch(text)), "a SHA-256 of 64 hex digits")
]


class Mechanism(StrEnum):
    """How a sum was made private.

    Every contribution has a Euclidean norm of at most C, and the sum gets noise of standard
    deviation σC in every coordinate: the Gaussian of real numbers, or the discrete one on a grid
    (Canonne et al. 2020). ``POISSON`` is the Gaussian on the sum of a secret sample, to which each
    contribution belongs with probability q, independently of the others.
    """

    GAUSSIAN = "gaussian"
    DISCRETE = "discrete-gaussian"
    POISSON = "poisson-gaussian"


class Relation(StrEnum):
    """Which data sets must be hard to tell apart.

    They differ by one contribution that is there or not, which moves the sum by C at most; or by
    one that is replaced by another one, which moves it by 2C.
    """

    ADD_REMOVE = "add-remove"
    REPLACE = "replace"


@dataclass(frozen=True)
class PrivacyEvent:
    """A private sum, taken ``count`` times.

    ``sigma`` is the noise multiplier σ: the noise has the standard deviation σC, whatever the
    relation. ``clip`` is C in units of the model, and has to cover the rounding to a grid; None
    stands for contributions of any norm, from which no noise protects. ``divisor`` is the constant
    D that the sum was divided by. Discrete noise has a ``grid``, the distance between two values
    before the division, and a number of ``coordinates``. It may be the sum of the independent draws
    of ``parties``, each of standard deviation σC / √parties; None stands for one draw.

    Raises ``ValueError`` for values that no mechanism has.
    """

    mechanism: Mechanism
    sigma: float
    clip: float | None
    divisor: float
    relation: Relation
    q: float = 1.0
    count: Count = 1
    grid: float | None = field(default=None, metadata={"sparse": True})
    coordinates: Count | None = field(default=None, metadata={"sparse": True})
    parties: Count | None = field(default=None, metadata={"sparse": True})

    def __post_init__(self) -> None:
        self._check_ranges()
        discrete = self.mechanism == Mechanism.DISCRETE
        for name in ("grid", "coordinates"):
            if (getattr(self, name) is not None) != discrete:
                which = "a value" if discrete else "no value"
                raise _bad(name, f"{which} with {self.mechanism}", getattr(self, name))
        if self.parties is not None and not discrete:
            raise _bad("parties", f"no value with {self.mechanism}", self.parties)
        if self.q < 1 and self.mechanism != Mechanism.POISSON:
            raise _bad("q", f"1 with {self.mechanism}", self.q)
        if self.clip is None and self.sigma > 0:
            raise _bad("clip", "a norm, which sigma is a multiple of", None)

    def _check_ranges(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise _bad("sigma", "0 or more", self.sigma)
        if not 0 < self.q <= 1:
            raise _bad("q", "more than 0, at most 1", self.q)
        for name in ("clip", "divisor", "grid", "coordinates", "parties", "count"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise _bad(name, "more than 0", value)


def _bad(name: str, expected: str, found: object) -> ValueError:
    return ValueError(f"privacy event: {name}: expected {expected}, found {brief(found)}")


@dataclass(frozen=True)
class LedgerEntry:
    """One event, and the step that spent it.

    ``inputs`` is the SHA-256 of all inputs and options of the step, which its noise was keyed with:
    the same step on the same inputs gives the same bytes, and so reveals nothing more.
    """

    run: str
    round: Count
    attempt: Count
    inputs: Digest
    event: PrivacyEvent


@dataclass(frozen=True)
class Ledger(FileRecord):
    """All that was spent of one budget. An entry is never removed.

    Raises ``ValueError`` for an entry that is listed twice.
    """

    entries: tuple[LedgerEntry, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.entries)) != len(self.entries):
            raise ValueError("entries: expected different ones, found one twice")

    @property
    def events(self) -> tuple[PrivacyEvent, ...]:
        """What was spent; the order has no meaning."""
        return tuple(entry.event for entry in self.entries)

    def merged(self, entries: Iterable[LedgerEntry]) -> "Ledger":
        """Return the union with other entries, in one order whatever came first.

        An entry that is there already counts once; anything that differs, as other inputs or
        another σ, is one more.
        """
        return Ledger(tuple(sorted({*self.entries, *entries}, key=_place)))


def _place(entry: LedgerEntry) -> tuple[str, int, int, bytes]:
    return (entry.run, entry.round, entry.attempt, canonical_json(encode(entry)))
