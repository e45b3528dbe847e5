"""What a global model was made from: named in its header, or listed in ``aggregate.json``.

Every client gets the header, so only a short list stands there. In place of a longer one stands its
SHA-256, that of canonical JSON with the keys ``updates`` (client → SHA-256), ``late`` (client →
round, of the updates of earlier rounds) and ``partials`` (name → SHA-256). The manifest of the
round has the list.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from fedcli.formats.manifest import Manifest
from fedcli.formats.metadata import LISTS_APART, Metadata
from fedcli.storage.atomic import canonical_json

MOST_NAMED = 100  # updates and partial means in a header: 9 kB


@dataclass(frozen=True)
class MadeFrom:
    """The updates and partial means that a model was made from; fields as in ``Metadata``."""

    updates: Mapping[str, str]
    late: Mapping[str, int] = field(default_factory=dict)
    partials: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return what a manifest lists."""
        accepted = manifest.accepted
        return cls(
            {entry.client: entry.sha256 for entry in accepted},
            {entry.client: entry.round for entry in accepted if entry.round != manifest.round},
            {entry.name: entry.sha256 for entry in manifest.partials},
        )

    @classmethod
    def named_in(cls, model: Metadata) -> Self | None:
        """Return what a header names; None if it does not, or only by its SHA-256."""
        if model.updates is None:
            return None
        return cls(model.updates, model.late or {}, model.partials or {})

    @property
    def sha256(self) -> str:
        """The SHA-256 of the list, hex."""
        return hashlib.sha256(canonical_json(vars(self))).hexdigest()

    def written_to(self, model: Metadata, *, named: bool = False) -> Metadata:
        """Return a header that names these, or the SHA-256 of the list if it is long.

        With ``named``, it names them however many there are.
        """
        if named or len(self.updates) + len(self.partials) <= MOST_NAMED:
            late, partials = self.late or None, self.partials or None
            return replace(model, updates=self.updates, late=late, partials=partials)
        empty = replace(model, updates=None, late=None, partials=None)
        return replace(empty, list_sha256=self.sha256, format=LISTS_APART)


def made_from(model: Metadata, manifest: Manifest | None) -> MadeFrom | None:
    """Return what a model was made from; None if neither its header tells nor the manifest.

    A manifest whose list has another SHA-256 than the header says tells nothing.
    """
    if model.list_sha256 is None:
        return MadeFrom.named_in(model)
    listed = None if manifest is None else MadeFrom.of(manifest)
    return listed if listed is not None and listed.sha256 == model.list_sha256 else None
