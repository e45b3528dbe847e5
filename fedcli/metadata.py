"""What a checkpoint says of itself: its kind, its place in the run, the roles of its tensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from fedcli.files import canonical_json

FORMAT = 1


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its pairs, for ``json.loads``; a repeated name is a ``ValueError``."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name appears twice in its header")
    return values


class Kind(StrEnum):
    """What a checkpoint is for."""

    GLOBAL = "global"
    UPDATE = "update"
    PARTIAL = "partial"
    CLIENT_STATE = "client-state"
    SERVER_STATE = "server-state"
    SHARD = "shard"
    TRAINING = "training"


class Role(StrEnum):
    """What a tensor is, and so what may be done with it.

    Parameters and buffers are averaged; norms, clipping, noise and server optimizers see
    parameters only; counters stay integers. A control is no tensor of the model: it is what an
    update adds to a control variate of the server.
    """

    PARAMETER = "parameter"
    BUFFER = "buffer"
    COUNTER = "counter"
    CONTROL = "control"


@dataclass(frozen=True)
class Metadata:
    """What a checkpoint says of itself; see ``docs/run-directory.md``."""

    kind: Kind
    run: str
    round: int | None = None
    client: str | None = None
    num_examples: int | None = None
    base: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None
    seed: int | None = None
    updates: Mapping[str, str] | None = None
    partials: Mapping[str, str] | None = None
    weighting: str | None = None
    steps: int | None = None
    format: int = FORMAT

    def encode(self) -> str:
        """Return canonical JSON, without the keys that are not set."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return canonical_json(values).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what ``encode`` wrote; keys that are not known are passed over.

        Raises ``ValueError`` that says which key is wrong.
        """
        values = json.loads(text, object_pairs_hook=no_duplicates)
        if not isinstance(values, dict):
            raise ValueError("its metadata is not a JSON object")
        found = values.get("format")
        if type(found) is not int or not 1 <= found <= FORMAT:
            raise ValueError(f"format {found!r}; this fedcli reads up to {FORMAT}")
        values = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        for key, expected in _METADATA_TYPES.items():
            if key in values and type(values[key]) is not expected:
                raise ValueError(
                    f"metadata {key!r} is {values[key]!r}, expected {expected.__name__}"
                )
        for key in ("kind", "run"):
            if key not in values:
                raise ValueError(f"metadata has no {key!r}")
        values["kind"] = Kind(values["kind"])
        values["roles"] = {name: Role(role) for name, role in values.get("roles", {}).items()}
        return cls(**values)


_METADATA_TYPES = {
    "kind": str,
    "run": str,
    "round": int,
    "client": str,
    "num_examples": int,
    "base": str,
    "roles": dict,
    "training": dict,
    "seed": int,
    "updates": dict,
    "partials": dict,
    "weighting": str,
    "steps": int,
}
