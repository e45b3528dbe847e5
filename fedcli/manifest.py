"""``aggregate.json``: what went into a round's global model, and what did not."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedcli.files import read_json, write_json

FORMAT = 1


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
    global_model: str
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
        values = read_json(path)
        if values.pop("format") != FORMAT:
            return None
        values["global_model"] = values.pop("global")
        values["accepted"] = tuple(Contribution(**entry) for entry in values["accepted"])
        values["rejected"] = tuple(Rejection(**entry) for entry in values["rejected"])
        values["missing"] = tuple(values["missing"])
        return Manifest(**values)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
