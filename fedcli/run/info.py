"""``run.json``: the data, the model, the clients, the plan, and the id of the run."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedcli.errors import RunFormatError, UsageError
from fedcli.formats.client_ids import check_client_id, check_distinct, client_order, is_client_id
from fedcli.formats.public_key import MASKING_PREFIX, PublicKeys, check_public_key
from fedcli.options import check, option
from fedcli.plan import Plan
from fedcli.plan.sections import convert, section_of
from fedcli.run.model_names import NORMS, STEMS, model_names
from fedcli.storage.atomic import canonical_json
from fedcli.text import brief, is_utf8

__all__ = ["check_client_id", "client_order", "is_client_id"]
FORMAT = 1
_LARGEST_SIDE = 2**31
_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
# left out if empty, as in older runs
_KEYS = ("members", "masking_keys", "coordinator", "noise_key", "remote")


@dataclass(frozen=True)
class DatasetInfo:
    """What the examples of a run look like.

    ``shape`` is that of one example, (C, H, W) for pictures. ``dtype`` is ``uint8`` (pictures,
    normalised as ``(x / 255 - mean) / std`` per channel) or ``float32`` (used unchanged).
    ``window`` are the pixel values that become 0 and 255; None means 8-bit pixels as they are.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "uint8"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    window: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse impossible descriptions (``UsageError``)."""
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UsageError("classes: expected names that differ from each other")
        if bad := [name for name in self.classes if not is_utf8(name)]:
            raise UsageError(f"classes: {brief(bad[0])} is not text in UTF-8")
        if len(self.shape) > 8 or not all(1 <= side <= _LARGEST_SIDE for side in self.shape):
            raise UsageError(f"shape: expected sizes of at least 1, found {brief(self.shape)}")
        if self.dtype not in ("uint8", "float32"):
            raise UsageError(f"dtype: expected uint8 or float32, found {brief(self.dtype)}")
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise UsageError("mean and std: expected as many of both, and std above 0")
        if self.window is not None and not (
            len(self.window) == 2 and -math.inf < self.window[0] < self.window[1] < math.inf
        ):
            raise UsageError(f"window: expected two numbers, the lower first: {brief(self.window)}")


@dataclass(frozen=True)
class ModelInfo:
    """The network of a run; ``name`` is built in, of torchvision, or a dotted name.

    ``lora`` is the rank of the adapters, None without any; ``lora_alpha`` is α, by default the
    rank. ``transform_input`` is None where it is off.
    """

    name: str = option(
        "cnn",
        "`cnn`, `linear`, `resnet18`, a torchvision classifier, or `package.module:factory`.",
        "NAME",
        word="--model",
        names=model_names,
    )
    stem: str = option(
        "imagenet",
        "First layers of `resnet18`: `imagenet`, or `cifar` (3×3, no max-pooling).",
        "NAME",
        choices=STEMS,
    )
    norm: str = option(
        "batch", "Normalisation layers of `resnet18`: `batch` or `group`.", "NAME", choices=NORMS
    )
    lora: int | None = option(
        None,
        "Train adapters of this rank next to the weights (LoRA), and the last layer.",
        "RANK",
        at_least=1,
    )
    lora_alpha: float | None = option(
        None, "Adapters count A / RANK times.", "A", above=0, unset="the rank"
    )
    transform_input: bool | None = option(
        None,
        "`googlenet`, `inception_v3`: renormalise inputs, as torchvision's weights expect it.",
        unset="on with torchvision's weights; must be given with other weights in `--init-from`",
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot be used (``UsageError``)."""
        check(self)
        if self.lora is None and self.lora_alpha is not None:
            raise UsageError("--lora-alpha: belongs to --lora")

    @property
    def lora_scale(self) -> float:
        """The factor of the adapters' change: α / r."""
        if self.lora is None or self.lora_alpha is None:
            return 1.0
        return self.lora_alpha / self.lora

    @property
    def is_users_own(self) -> bool:
        """Whether the name is ``package.module:factory``, which only a person may ask to run."""
        return ":" in self.name


@dataclass(frozen=True)
class RunInfo:
    """The content of ``run.json``; ``id`` is the digest of everything else in it.

    ``origin`` identifies the other inputs of the run: the data and its partition, and the digest of
    the starting weights. ``members`` maps every client to the public key of its updates, and
    ``coordinator`` is the public key of the global models; empty and None if they are not signed.
    ``masking_keys`` maps every client to its public X25519 key, if updates are masked.
    ``noise_key`` is the SHA-256 of the key of the coordinator's noise, None without one.
    ``remote`` is where clients push to and pull from, if nothing else is said.
    """

    dataset: DatasetInfo
    model: ModelInfo
    seed: int
    clients: tuple[str, ...]
    plan: Plan
    origin: dict[str, Any]
    members: Mapping[str, str] = field(default_factory=dict)
    masking_keys: Mapping[str, str] = field(default_factory=dict)
    coordinator: str | None = None
    noise_key: str | None = None
    remote: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse a negative seed, malformed or duplicate ids, and malformed keys.

        Raises ``UsageError``.
        """
        if self.seed < 0:
            raise UsageError(f"seed: expected a number of at least 0, found {self.seed}")
        if len(set(map(check_client_id, self.clients))) < len(self.clients):
            raise UsageError("clients: expected ids that differ from each other")
        check_distinct(self.clients)
        if self.members and self.members.keys() != set(self.clients):
            raise UsageError("members: expected the key of every client, and of nobody else")
        for client, key in self.members.items():
            check_public_key(key, f"members: {client}")
        self._check_masking()
        if self.coordinator is not None:
            check_public_key(self.coordinator, "coordinator")
        if self.noise_key is not None and not _SHA256.fullmatch(self.noise_key):
            found = brief(self.noise_key)
            raise UsageError(f"noise_key: expected a SHA-256 of 64 hex digits, found {found}")

    def _check_masking(self) -> None:
        if self.plan.secagg is None and not self.masking_keys:
            return
        if self.plan.secagg is None or self.masking_keys.keys() != set(self.clients):
            raise UsageError("masking_keys: expected that of every client, with a [secagg] plan")
        if not self.members or self.coordinator is None:
            raise UsageError("secagg: expected members and a coordinator, who sign")
        for client, key in self.masking_keys.items():
            check_public_key(key, f"masking_keys: {client}", MASKING_PREFIX)

    @property
    def id(self) -> str:
        """The id of a run with this content."""
        return run_id(self._content())

    @property
    def member_lines(self) -> dict[str, str]:
        """The lines of public keys by member, as ``init --member`` takes them."""
        return {
            member: PublicKeys(key, self.masking_keys.get(member)).line
            for member, key in self.members.items()
        }

    @property
    def data_seed(self) -> int:
        """The seed of what was drawn from the data set: the limit and the test split."""
        return _number(self.origin.get("data_seed"), self.seed)

    @property
    def partition_seed(self) -> int:
        """The seed of the partition: the cut, validation and test examples of clients."""
        return _number(self.origin.get("partition_seed"), self.seed)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of ``run.json``."""
        return {"id": self.id, **self._content()}

    def _content(self) -> dict[str, Any]:
        model, dataset = _given(asdict(self.model)), _given(asdict(self.dataset))
        content = {**asdict(self), "dataset": dataset, "model": model, "plan": self.plan.as_json()}
        return {key: value for key, value in content.items() if value or key not in _KEYS}


def _number(value: Any, usual: int) -> int:
    return value if isinstance(value, int) else usual


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def run_id(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, hex, of the canonical JSON of ``run.json`` without its ``id``.

    It covers the keys in the file, so that a run keeps its id when later versions add keys.
    """
    content = {key: value for key, value in values.items() if key != "id"}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def parse(values: dict[str, Any], path: Path) -> RunInfo:
    """Build a ``RunInfo`` from JSON values; raise ``RunFormatError`` that names the file."""
    try:
        return RunInfo(
            dataset=section_of(DatasetInfo, values["dataset"], "dataset"),
            model=_model_of(values["model"]),
            seed=convert(int, values["seed"], "seed"),
            clients=convert(tuple[str, ...], values["clients"], "clients"),
            plan=Plan.from_mapping(convert(dict, values["plan"], "plan"), "plan"),
            origin=convert(dict, values["origin"], "origin"),
            members=convert(dict, values.get("members", {}), "members"),
            masking_keys=convert(dict, values.get("masking_keys", {}), "masking_keys"),
            coordinator=values.get("coordinator"),
            noise_key=convert(str | None, values.get("noise_key"), "noise_key"),
            remote=convert(str, values["remote"], "remote") if "remote" in values else None,
            format=values["format"],
        )
    except KeyError as error:
        raise RunFormatError(f"has no {error.args[0]!r}", path=path) from None
    except UsageError as error:
        raise RunFormatError(f"does not describe a run: {error.message}", path=path) from None


def _model_of(values: Any) -> ModelInfo:
    """Build a ``ModelInfo``; its name is left to the default by command lines, not by files."""
    model = section_of(ModelInfo, values, "model")
    if "name" not in values:
        raise UsageError("model has no 'name'")
    return model
