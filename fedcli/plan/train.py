"""Section ``train`` of the plan."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from fedcli.algorithms import ALGORITHMS, LocalAlgorithm
from fedcli.errors import UsageError
from fedcli.options import Declared, Given, check, declared, option, option_of
from fedcli.plan.algorithm_options import (
    ALGORITHM_OPTIONS,
    check_algorithm,
    check_algorithm_options,
    checked_options,
)
from fedcli.plan.choices import AUGMENTATIONS, OPTIMIZERS, PRECISIONS, encodings
from fedcli.plan.private_training import BUDGET, LEVELS, check_private_training, replaced_noise
from fedcli.plan.schedules import SCHEDULES, check_schedule, learning_rate
from fedcli.plan.sections import over_file, section_of, updated

if TYPE_CHECKING:  # codecs need numpy, which --help does without
    from fedcli.codecs import Codec

_RATE = "Learning rate over rounds"
_ALGORITHM = "Local algorithm"
_LAYERS = "Layers"
_ENCODING = "Encoding of updates"
_PRIVACY = "Differential privacy"


@dataclass(frozen=True)
class TrainPlan:
    """The hyper-parameters of local training.

    None turns a value off, and so does 0 where the range starts at 0. ``steps``, if given,
    replaces ``epochs``. ``freeze`` and ``local_layers`` are patterns of
    ``fedcli.plan.layer_patterns``. ``encode`` is None for ``float32``, and else spelled as
    its codec spells it. ``algorithm_options`` are the algorithm's options that are set;
    plan files and the command line list them with all others.
    """

    epochs: int = option(5, "Local epochs per round.", "N", at_least=1, aliases=("--local-epochs",))
    steps: int | None = option(
        None,
        "Local steps per round, in place of epochs.",
        "N",
        at_least=1,
        aliases=("--local-steps",),
    )
    lr: float = option(0.01, "Learning rate.", "RATE", above=0, aliases=("--learning-rate",))
    batch_size: int = option(64, "Examples per batch.", "N", at_least=1)
    optimizer: str = option("sgd", "`sgd`, `adam` or `adamw`.", "NAME", choices=OPTIMIZERS)
    momentum: float = option(
        0.9, "Momentum of SGD, or β₁ of Adam; starts from 0 every round.", "M", at_least=0, below=1
    )
    weight_decay: float = option(
        0.0, "Weight decay: an L2 penalty, or decoupled with `adamw`.", "W", at_least=0
    )
    clip_grad: float | None = option(None, "Clip gradients to this norm.", "NORM", at_least=0)
    label_smoothing: float | None = option(
        None,
        "Share of the label that is spread over all classes.",
        "E",
        at_least=0,
        below=1,
        what="share",
    )
    augment: tuple[str, ...] = option(
        (),
        "`flip` (mirror half of the pictures), `crop` (shift each by up to an eighth of its"
        " size), `cutout` (grey out a square of half its size); several with commas, or"
        " `none`.",
        "NAMES",
        choices=AUGMENTATIONS,
    )
    mixup: float | None = option(
        None, "Blend pairs of examples, by shares drawn from Beta(A, A).", "A", at_least=0
    )
    precision: str = option(
        "fp32",
        "`fp32`; `bf16` or `fp16` by autocast, with weights that stay fp32.",
        "NAME",
        choices=PRECISIONS,
    )
    initial_loss: bool = option(
        False,
        "Record the loss of the starting model on all of the client's examples; the strategy"
        " `qfedavg` needs it.",
        unset="off, unless the strategy needs it",
    )
    lr_schedule: str = option(
        "constant",
        "`constant`, `cosine`, `step` or `exponential`.",
        "NAME",
        _RATE,
        choices=SCHEDULES,
    )
    lr_rounds: int | None = option(
        None,
        "`cosine`: rounds until the rate is near 0.",
        "N",
        _RATE,
        at_least=1,
        unset="required by `cosine`",
    )
    lr_every: int | None = option(
        None,
        "`step`: rounds from one decay to the next.",
        "N",
        _RATE,
        at_least=1,
        unset="required by `step`",
    )
    lr_decay: float | None = option(
        None,
        "`step`, `exponential`: factor of each decay.",
        "F",
        _RATE,
        above=0,
        at_most=1,
        what="factor",
        unset="required by `step`, `exponential`",
    )
    lr_warmup: int | None = option(
        None, "Rounds in which the rate climbs to its full value.", "N", _RATE, at_least=0
    )
    algorithm: str = option(
        "fedavg",
        f"The local algorithm: `{'`, `'.join(ALGORITHMS)}`.",
        "NAME",
        _ALGORITHM,
        choices=ALGORITHMS,
    )
    algorithm_options: Mapping[str, Any] = field(default_factory=dict)
    proximal: float | None = option(
        None, "Add FedProx's term, with this μ, to the algorithm.", "MU", _ALGORITHM, at_least=0
    )
    local_layers: tuple[str, ...] = option(
        (),
        "Layers that stay with the client, such as `fc` or `layer4.*.bn1,fc`, or `none`.",
        "PATTERNS",
        _LAYERS,
    )
    head_epochs: int | None = option(
        None,
        "Train the local layers alone for N epochs first, then the others (FedRep).",
        "N",
        _LAYERS,
        at_least=0,
    )
    freeze: tuple[str, ...] = option(
        (),
        "Layers that are neither trained nor sent nor averaged, such as `conv1,layer1`, or"
        " `'*,!fc'` for all but one, or `none`.",
        "PATTERNS",
        _LAYERS,
        unset="none; with `--lora`, all that it does not train",
    )
    encode: str | None = option(
        None,
        "How updates are encoded: `float16`, `int8`, `round=F`, `topk=F`, `randk=F` or `sign`; F is"
        " the share of the parameters that is sent.",
        "SPEC",
        _ENCODING,
        names=encodings,
        unset="`float32`: not encoded",
    )
    feedback: float | None = option(
        None,
        "Error feedback: the share of what an encoding loses that is added to the client's next"
        " update.",
        "LAMBDA",
        _ENCODING,
        at_least=0,
        at_most=1,
        what="share",
    )
    dp: str | None = option(
        None,
        "`example`: train so that nobody learns whether one example was there (DP-SGD); needs"
        " `--noise-key`.",
        "LEVEL",
        _PRIVACY,
        choices=LEVELS,
    )
    clip: float | None = option(
        None, "Clip the gradient of each example to the norm C.", "C", _PRIVACY, above=0
    )
    noise_multiplier: float | None = option(
        None,
        "Add noise with the standard deviation σC to each sum of clipped gradients.",
        "SIGMA",
        _PRIVACY,
        at_least=0,
        unset="required by `--dp`, unless a target sets it",
    )
    target_epsilon: float | None = option(
        None,
        "Choose that noise so that `--target-rounds` rounds spend at most ε = E at `--delta`.",
        "E",
        _PRIVACY,
        above=0,
    )
    target_rounds: int | None = option(
        None,
        "The rounds that `--target-epsilon` is for.",
        "T",
        _PRIVACY,
        at_least=1,
        unset="required by `--target-epsilon`",
    )
    delta: float | None = option(
        None,
        "The δ of ε, far below 1 / the number of a client's examples.",
        "D",
        _PRIVACY,
        above=0,
        below=1,
        unset="required by a target or limit",
    )
    max_epsilon: float | None = option(
        None,
        "Refuse a round after which a client would have spent more than ε = E in all.",
        "E",
        _PRIVACY,
        above=0,
        unset="`--target-epsilon`, if that is given",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range and combinations that make no sense."""
        check(self)
        if self.encode is not None:  # one spelling, so that equal plans are equal
            spec = None if self.codec is None else str(self.codec)
            object.__setattr__(self, "encode", spec)
        if self.feedback and self.encode is None:
            raise UsageError("--feedback: needs --encode, because float32 loses nothing")
        check_schedule(self.lr_schedule, self._schedule_options)
        check_algorithm_options(self.algorithm, self.algorithm_options)
        check_algorithm(self)
        check_private_training(self)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the default plan with these values, among them options of the algorithm."""
        return cls().with_options(values)

    @classmethod
    def from_mapping(cls, values: Given, origin: str) -> Self:
        """Build it from a section of a plan file. Raises ``UsageError`` that names ``origin``."""
        own = {key: value for key, value in values.items() if key in ALGORITHM_OPTIONS}
        rest = {key: value for key, value in values.items() if key not in own}
        plan = section_of(cls, rest, origin, known=TRAIN_OPTIONS)
        return replace(plan, algorithm_options=checked_options(own, lambda key: f"{origin} {key}"))

    @cached_property
    def local(self) -> LocalAlgorithm:
        """The algorithm with its options."""
        return ALGORITHMS[self.algorithm](**self.algorithm_options)

    @cached_property
    def codec(self) -> "Codec | None":
        """The encoding of updates; None without one."""
        return None if self.encode is None else _codec(self.encode)

    @property
    def _schedule_options(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in _SCHEDULE_OPTIONS}
        return {**options, "lr_warmup": self.lr_warmup or 0}

    def learning_rate(self, round_number: int) -> float:
        """Return the learning rate of a round, counted from 1; see ``schedules``."""
        return learning_rate(self.lr_schedule, self.lr, self._schedule_options, round_number)

    @property
    def keeps_layers(self) -> bool:
        """Whether layers stay with the client."""
        return bool(self.local_layers) or self.local.keeps_layers

    def as_json(self) -> dict[str, Any]:
        """Return the values that are set, by key; ``steps`` replaces ``epochs``."""
        values = asdict(self)
        values |= values.pop("algorithm_options")
        if self.steps is not None:
            del values["epochs"]
        return {key: value for key, value in values.items() if not _is_off(key, value)}

    def recorded(self, round_number: int) -> dict[str, Any]:
        """Return the values that an update of a round records, by key.

        A schedule is recorded as its learning rate for the round, and the measured initial loss
        instead of the wish for one.
        """
        values = {key: v for key, v in self.as_json().items() if key not in NOT_RECORDED}
        return {**values, "lr": self.learning_rate(round_number)}

    def resolved(self) -> Self:
        """Return the plan with the algorithm's defaults filled in."""
        return replace(self, algorithm_options=self.local.options)

    def with_options(self, typed: Given) -> Self:
        """Return the plan updated with the typed values that are not None.

        Another algorithm or schedule starts from its own defaults; ``steps`` and ``epochs``
        replace each other, and ``float32`` needs no feedback. Raises ``UsageError``.
        """
        given = {key: value for key, value in typed.items() if value is not None}
        if {"steps", "epochs"} <= given.keys():
            raise UsageError("--epochs and --steps: give one of them")
        dropped: tuple[str, ...] = ("steps",) if "epochs" in given else ()
        dropped += replaced_noise(given)
        own = {key: given.pop(key) for key in tuple(given) if key in ALGORITHM_OPTIONS}
        if given.get("algorithm", self.algorithm) == self.algorithm:
            own = {**self.algorithm_options, **own}
        if given.get("lr_schedule", self.lr_schedule) != self.lr_schedule:
            dropped += _SCHEDULE_OPTIONS
        if "encode" in given and _codec(given["encode"]) is None:
            dropped += ("feedback",)
        # All at once: old values may conflict with only some of the new ones.
        checked = checked_options(own, option_of)
        return updated(self, given, without=dropped, algorithm_options=checked)


def _codec(spec: str) -> "Codec | None":
    from fedcli.codecs import parse_codec

    return parse_codec(spec, "--encode")


_SCHEDULE_OPTIONS = ("lr_rounds", "lr_every", "lr_decay")
NOT_RECORDED = ("lr_schedule", "lr_warmup", *_SCHEDULE_OPTIONS, "initial_loss", *BUDGET)


def training_over_file(file: Given, typed: Given) -> dict[str, Any]:
    """Return typed options of training over those of a file, without those they replace."""
    owned = {"algorithm": ALGORITHM_OPTIONS, "lr_schedule": _SCHEDULE_OPTIONS}
    kept = {key: value for key, value in file.items() if key not in replaced_noise(typed)}
    return over_file(kept, typed, [("epochs", "steps")], owned)


def _is_off(key: str, value: Any) -> bool:
    if value is None or value is False or value == ():
        return True
    one = TRAIN_OPTIONS[key]
    means_off = one.default is None and one.option.at_least == 0 and one.option.unset is None
    return not value and means_off


def _in_order() -> dict[str, Declared]:
    """Return all options of training, with those of the algorithms after ``algorithm``."""
    options: dict[str, Declared] = {}
    for name, one in declared(TrainPlan).items():
        options[name] = one
        if name == "algorithm":
            options |= {
                key: replace(own, option=replace(own.option, panel=_ALGORITHM))
                for key, own in ALGORITHM_OPTIONS.items()
            }
    return options


TRAIN_OPTIONS = _in_order()
