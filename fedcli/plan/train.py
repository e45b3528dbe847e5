"""Section ``train`` of the plan."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedcli.algorithms import ALGORITHMS, OPTIONS, Algorithm
from fedcli.errors import UsageError
from fedcli.options import (
    ABOVE_0,
    FROM_0,
    FROM_1,
    Range,
    check_ranges,
    one_of,
    updated,
)
from fedcli.plan.combinations import check_algorithm
from fedcli.plan.schedules import OPTIONS as SCHEDULE_OPTIONS
from fedcli.plan.schedules import SCHEDULES, check_schedule


@dataclass(frozen=True)
class Choice:
    """What a name stands for, and where it comes from."""

    summary: str
    source: str = ""


AUGMENTATIONS: dict[str, Choice] = {
    "flip": Choice("mirror half of the pictures left to right"),
    "crop": Choice("shift each picture by up to an eighth of its size, filling with black"),
    "cutout": Choice(
        "put the mean in a square of half the picture's size", "DeVries & Taylor 2017"
    ),
}
OPTIMIZERS: dict[str, Choice] = {
    "sgd": Choice("with --momentum, as torch.optim.SGD", "Sutskever et al. 2013"),
    "adam": Choice("--momentum is its β₁, weight decay an L2 penalty", "Kingma & Ba 2015"),
    "adamw": Choice("Adam with decoupled weight decay", "Loshchilov & Hutter 2019"),
}
PRECISIONS: dict[str, str] = {
    "fp32": "32-bit floating point",
    "bf16": "bfloat16 where torch.autocast holds it safe; the weights stay fp32",
    "fp16": "half precision likewise, with a scaled loss",
}


@dataclass(frozen=True)
class TrainPlan:
    """The hyper-parameters of local training.

    What is None is off, or left to the algorithm; 0 is off too where a range begins with it.
    ``steps``, where given, counts instead of ``epochs``. ``freeze`` and ``local_layers`` are
    patterns as ``fedcli.plan.layer_patterns`` reads them.
    """

    epochs: int = 5
    steps: int | None = None
    lr: float = 0.01
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    lr_rounds: int | None = None
    lr_every: int | None = None
    lr_decay: float | None = None
    lr_warmup: int | None = None
    clip_grad: float | None = None
    label_smoothing: float | None = None
    augment: tuple[str, ...] = ()
    mixup: float | None = None
    algorithm: str = "fedavg"
    mu: float | None = None
    scaffold_option: int | None = None
    feddyn_alpha: float | None = None
    temperature: float | None = None
    ditto_lambda: float | None = None
    proximal: float | None = None
    local_layers: tuple[str, ...] = ()
    head_epochs: int | None = None
    freeze: tuple[str, ...] = ()
    precision: str = "fp32"
    initial_loss: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range and combinations that make no sense (``UsageError``)."""
        check_ranges(self, _RANGES)
        one_of("--optimizer", self.optimizer, OPTIMIZERS)
        one_of("--precision", self.precision, PRECISIONS)
        one_of("--algorithm", self.algorithm, ALGORITHMS)
        one_of("--lr-schedule", self.lr_schedule, SCHEDULES)
        for name in self.augment:
            one_of("--augment", name, AUGMENTATIONS)
        check_schedule(self)
        check_algorithm(self)

    @property
    def local(self) -> Algorithm:
        """The row of the algorithm."""
        return ALGORITHMS[self.algorithm]

    @property
    def keeps_layers(self) -> bool:
        """Whether layers stay with the client."""
        return bool(self.local_layers) or self.algorithm == "fedbn"

    def as_json(self) -> dict[str, Any]:
        """Return what is set, by key: without what is off, and epochs where steps count."""
        values = asdict(self)
        if self.steps is not None:
            del values["epochs"]
        return {key: value for key, value in values.items() if not _is_off(key, value)}

    def resolved(self) -> "TrainPlan":
        """Return the plan with the algorithm's own defaults where it says nothing."""
        values = {k: v for k, v in self.local.options.items() if getattr(self, k) is None}
        return replace(self, **values)

    def with_options(self, typed: Mapping[str, Any]) -> "TrainPlan":
        """Return the plan with what was typed (not None) in place of its own.

        Another algorithm or schedule starts from its own defaults; ``steps`` and ``epochs``
        replace each other. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        if {"steps", "epochs"} <= given.keys():
            raise UsageError("--epochs and --steps: give one of them")
        dropped: tuple[str, ...] = ("steps",) if "epochs" in given else ()
        if given.get("algorithm", self.algorithm) != self.algorithm:
            dropped += OPTIONS
        if given.get("lr_schedule", self.lr_schedule) != self.lr_schedule:
            dropped += SCHEDULE_OPTIONS
        # at once: what is left of the old plan need not go with only some of the new values
        return updated(self, given, without=dropped)


_OFF_AT_0 = (
    "lr_warmup",
    "clip_grad",
    "label_smoothing",
    "mixup",
    "proximal",
    "head_epochs",
)


def _is_off(key: str, value: Any) -> bool:
    return value is None or value is False or value == () or (key in _OFF_AT_0 and not value)


_RANGES: dict[str, Range] = {
    "epochs": FROM_1,
    "steps": FROM_1,
    "lr": ABOVE_0,
    "batch_size": FROM_1,
    "momentum": ("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "weight_decay": FROM_0,
    "lr_rounds": FROM_1,
    "lr_every": FROM_1,
    "lr_decay": ("a factor above 0, at most 1", lambda value: 0 < value <= 1),
    "lr_warmup": FROM_0,
    "clip_grad": FROM_0,
    "label_smoothing": ("a share from 0 to below 1", lambda value: 0 <= value < 1),
    "mixup": FROM_0,
    "mu": FROM_0,
    "scaffold_option": ("1 or 2", lambda value: value in (1, 2)),
    "feddyn_alpha": FROM_0,
    "temperature": ABOVE_0,
    "ditto_lambda": FROM_0,
    "proximal": FROM_0,
    "head_epochs": FROM_0,
}
