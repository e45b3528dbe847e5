"""The files of secure aggregation: sealed shares, the list of survivors, and members' answers."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from fedcli.errors import BadInputError
from fedcli.formats.metadata import Metadata
from fedcli.formats.records import ClientId, Count, FileRecord
from fedcli.text import brief

MASK = "mask"  # the name of the encoding


@dataclass(frozen=True)
class SharesFile(FileRecord):
    """``updates/ID.shares``: what travels with a masked update.

    ``update`` is the SHA-256 of the update, hex. ``shares`` are sealed ones, base64, by the member
    who can open them; ``commitments`` are SHA-256s of the seeds, hex, by the other member.
    """

    run: str
    round: Count
    attempt: Count
    client: ClientId
    update: str
    shares: Mapping[ClientId, str]
    commitments: Mapping[ClientId, str]


@dataclass(frozen=True)
class MaskedFiles:
    """The SHA-256s, hex, of a masked update and of its shares."""

    update: str
    shares: str


@dataclass(frozen=True)
class SurvivorList:
    """Whose masked updates are in the sum of a round; ``kind`` is ``survivors``."""

    kind: str
    run: str
    round: Count
    attempt: Count
    survivors: Mapping[ClientId, MaskedFiles]


@dataclass(frozen=True)
class SurvivorsFile(FileRecord):
    """``survivors.json``: the list with the coordinator's signature, base64."""

    algorithm: str
    signed: SurvivorList
    signature: str


@dataclass(frozen=True)
class MemberAnswer:
    """A member's shares; ``kind`` is ``unmask``, ``survivors`` the SHA-256 of the list, hex.

    Shares are base64: ``own`` of the seed of each survivor, ``pairs`` of the seeds that each
    survivor has in common with each missing member.
    """

    kind: str
    run: str
    round: Count
    attempt: Count
    client: ClientId
    survivors: str
    own: Mapping[ClientId, str]
    pairs: Mapping[ClientId, Mapping[ClientId, str]]


@dataclass(frozen=True)
class AnswerFile(FileRecord):
    """``unmask/ID.json``: a member's answer with its signature, base64."""

    algorithm: str
    signed: MemberAnswer
    signature: str


def is_masked(metadata: Metadata) -> bool:
    """Return whether a checkpoint is a masked update."""
    return (metadata.encoding or {}).get("name") == MASK


def to_base64(data: bytes) -> str:
    """Return bytes as text."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes of a text; raise ``BadInputError``."""
    try:
        return base64.b64decode(text.encode(), validate=True)
    except ValueError:
        raise BadInputError(f"expected base64, found {brief(text)}") from None
