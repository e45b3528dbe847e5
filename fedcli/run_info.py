"""What ``run.json`` holds: the data, the model, the clients, the plan, and the run's id."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedcli.errors import RunFormatError, UsageError
from fedcli.files import canonical_json
from fedcli.plan import Plan
from fedcli.plan.values import ABOVE_0, FROM_1, check_ranges

FORMAT = 1
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def client_order(ids: Iterable[str]) -> list[str]:
    """Sort client ids: numbers by value, then names. Sums over clients run in this order."""
    return sorted(set(ids), key=lambda i: (0, int(i), i) if i.isdecimal() else (1, 0, i))


def is_client_id(client: str) -> bool:
    """Say whether a string can be the name of a client, and of its files."""
    return _CLIENT_ID.fullmatch(client) is not None


def check_client_id(client: str) -> str:
    """Return a client id that is safe as a file name; raise ``UsageError`` otherwise."""
    if not is_client_id(client):
        raise UsageError(
            f"client id {client!r}: expected letters, digits, '.', '_' or '-', at most 64,"
            " the first a letter or a digit"
        )
    return client


@dataclass(frozen=True)
class DatasetInfo:
    """What the examples of a run look like.

    ``shape`` is that of one example, (C, H, W) for pictures. ``dtype`` is ``uint8`` (pictures,
    normalised as ``(x / 255 - mean) / std`` per channel) or ``float32`` (used as they are).
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "uint8"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)


@dataclass(frozen=True)
class ModelInfo:
    """Which network a run trains; ``name`` is a built-in, a torchvision or a dotted name.

    ``lora`` is the rank of its adapters, None without any; ``lora_alpha`` is α, None for the rank.
    """

    name: str
    stem: str = "imagenet"
    norm: str = "batch"
    lora: int | None = None
    lora_alpha: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of range (``UsageError``)."""
        check_ranges(self, {"lora": FROM_1, "lora_alpha": ABOVE_0})
        if self.lora is None and self.lora_alpha is not None:
            raise UsageError("--lora-alpha: belongs to --lora")

    @property
    def lora_scale(self) -> float:
        """What the adapters' change is multiplied by: α / r."""
        if self.lora is None or self.lora_alpha is None:
            return 1.0
        return self.lora_alpha / self.lora

    @property
    def is_users_own(self) -> bool:
        """Whether the name is ``package.module:factory``, which is never run from a file."""
        return ":" in self.name


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` holds. ``id`` is the digest of all the rest and of ``origin``.

    ``origin`` is what the run was made from besides: how the data was cut and what identifies it,
    and the digest of the weights that it started from.
    """

    dataset: DatasetInfo
    model: ModelInfo
    seed: int
    clients: tuple[str, ...]
    plan: Plan
    origin: dict[str, Any]
    format: int = FORMAT

    @property
    def id(self) -> str:
        """The id of a run of this content."""
        return run_id(self._content())

    def as_json(self) -> dict[str, Any]:
        """Return what is written to ``run.json``."""
        return {"id": self.id, **self._content()}

    def _content(self) -> dict[str, Any]:
        model = {key: value for key, value in asdict(self.model).items() if value is not None}
        return {**asdict(self), "model": model, "plan": self.plan.as_json()}


def run_id(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, hex, of the canonical JSON of all of ``run.json`` but its ``id``.

    It is of what the file says, so that a run keeps its id when a later version knows more keys.
    """
    content = {key: value for key, value in values.items() if key != "id"}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def parse(values: dict[str, Any], path: Path) -> RunInfo:
    """Build a ``RunInfo`` from JSON values; raise ``RunFormatError`` that names the file."""
    try:
        return RunInfo(
            dataset=DatasetInfo(**_tuples(values["dataset"])),
            model=ModelInfo(**values["model"]),
            seed=values["seed"],
            clients=tuple(check_client_id(client) for client in values["clients"]),
            plan=Plan.from_mapping(values["plan"], str(path)),
            origin=dict(values["origin"]),
            format=values["format"],
        )
    except KeyError as error:
        raise RunFormatError(f"{path}: has no {error.args[0]!r}") from None
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise RunFormatError(f"{path}: does not describe a run: {error}") from None


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
