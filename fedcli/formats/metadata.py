"""What a checkpoint says of itself: its kind, its place in the run, the roles of its tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from fedcli.formats.client_ids import is_client_id
from fedcli.storage.atomic import canonical_json
from fedcli.storage.strict_json import parse_json
from fedcli.text import brief

FORMAT = 1


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
        values = parse_json(text)
        if not isinstance(values, dict):
            raise ValueError("its metadata is not a JSON object")
        found = values.get("format")
        if type(found) is not int or not 1 <= found <= FORMAT:
            raise ValueError(f"format {brief(found)}; this fedcli reads up to {FORMAT}")
        values = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        for key in ("kind", "run"):
            if key not in values:
                raise ValueError(f"metadata has no {key!r}")
        for key, value in values.items():
            _check(key, value)
        values["kind"] = Kind(values["kind"])
        values["roles"] = {name: Role(role) for name, role in values.get("roles", {}).items()}
        return cls(**values)


def _check(key: str, value: Any) -> None:
    expected = _TYPES[key]
    if type(value) is not expected:
        raise ValueError(f"metadata {key!r} is {brief(value)}, expected {expected.__name__}")
    if key in _COUNTS and value < 0:
        raise ValueError(f"metadata {key!r} is {value}, expected 0 or more")
    if key == "training" and len(canonical_json(value)) > _MOST_TRAINING:
        raise ValueError(f"metadata {key!r} takes more than {_MOST_TRAINING} bytes")
    if key in ("updates", "partials") and not all(type(text) is str for text in value.values()):
        raise ValueError(f"metadata {key!r} names something else than SHA-256s")
    for client in {"client": [value], "updates": value}.get(key, ()):
        if not is_client_id(client):
            raise ValueError(f"metadata {key!r} has {brief(client)}, which is no client id")


_MOST_TRAINING = 100_000  # bytes of JSON; a hundred updates may be open at once
_COUNTS = ("round", "num_examples", "seed", "steps")
_TYPES: dict[str, Any] = {
    "format": int,
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
