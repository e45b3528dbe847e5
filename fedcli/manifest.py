"""``aggregate.json``: what went into a round's global model, and what did not."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedcli.errors import BadInputError
from fedcli.files import write_json
from fedcli.records import FORMAT, read_record


@dataclass(frozen=True)
class Contribution:
    """What one client put into the global model; ``bytes`` is the size of its update."""

    client: str
    sha256: str
    num_examples: int
    weight: float
    bytes: int


@dataclass(frozen=True)
class Rejection:
    """A client that was left out, and why."""

    client: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What a global model was made from. ``base`` and ``global_model`` are SHA-256s, hex.

    ``accepted`` is in the order of the sum. ``seconds`` is all that differs between two
    aggregations of the same inputs.
    """

    round: int
    strategy: str
    weighting: str
    base: str
    global_model: str = field(metadata={"key": "global"})
    accepted: tuple[Contribution, ...]
    missing: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    seconds: float

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        values: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        values["global"] = values.pop("global_model")
        write_json(path, values)


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None when there is none, or it cannot be understood.

    Raises ``StorageError`` when it is there and cannot be read.
    """
    try:
        return read_record(Manifest, path)
    except BadInputError:
        return None
