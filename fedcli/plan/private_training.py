"""What training with differential privacy at the level of examples asks of a plan."""

from typing import TYPE_CHECKING

from fedcli.errors import UsageError
from fedcli.options import option_of
from fedcli.plan.choices import Choice

if TYPE_CHECKING:
    from fedcli.plan.train import TrainPlan

EXAMPLE = "example"
LEVELS: dict[str, Choice] = {
    EXAMPLE: Choice("hide each example of a client from everybody else", "Abadi et al. 2016")
}
_NOISE = "noise_multiplier"
_REFUSED = {
    "mixup": "blends examples, so that one of them is in the gradients of two",
    "initial_loss": "is the loss of all examples, and gets no noise",
    "head_epochs": "trains on the examples in a second way, which gets no noise",
}


def check_private_training(plan: "TrainPlan") -> None:
    """Raise ``UsageError`` for settings that break the privacy of a plan, or belong to none."""
    if plan.dp is None:
        for key in ("clip", _NOISE):
            if getattr(plan, key) is not None:
                raise UsageError(f"{option_of(key)}: needs --dp {EXAMPLE}")
        return
    if plan.noise_multiplier is None:
        raise UsageError(
            f"--dp {plan.dp}: needs --noise-multiplier",
            hint="with 0, gradients are clipped and get no noise, which gives no privacy",
        )
    if plan.noise_multiplier and plan.clip is None:
        raise UsageError(f"--dp {plan.dp}: needs --clip, which the noise is a multiple of")
    _check_parts(plan)


def _check_parts(plan: "TrainPlan") -> None:
    for key, why in _REFUSED.items():
        if getattr(plan, key):
            raise UsageError(f"{option_of(key)}: {why}, and --dp {plan.dp} needs noise on all")
    if plan.precision == "fp16":
        raise UsageError(
            f"--precision fp16: skips steps that overflow, which tells of the examples that --dp"
            f" {plan.dp} hides",
            hint="--precision bf16 skips none",
        )
    if why := plan.local.exposes_examples:
        raise UsageError(
            f"--algorithm {plan.algorithm}: {why}, which --dp {plan.dp} would not cover",
            hint="--algorithm fedavg, fedprox, fednova, feddyn or scaffold use its gradients alone",
        )
