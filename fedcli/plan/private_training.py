"""What training with differential privacy at the level of examples asks of a plan."""

from dataclasses import replace
from typing import TYPE_CHECKING

from fedcli.errors import UsageError
from fedcli.options import Given, option_of
from fedcli.plan.choices import Choice

if TYPE_CHECKING:
    from fedcli.plan import Plan
    from fedcli.plan.train import TrainPlan

EXAMPLE = "example"
LEVELS: dict[str, Choice] = {
    EXAMPLE: Choice("protect each example of a client from everybody else", "Abadi et al. 2016")
}
BUDGET = ("target_epsilon", "target_rounds", "delta", "max_epsilon")
_TARGET = ("target_epsilon", "target_rounds")
_REFUSED = {
    "mixup": "blends examples, so that one of them is in the gradients of two",
    "initial_loss": "is the loss of all examples, and gets no noise",
    "head_epochs": "trains on the examples in a second way, which gets no noise",
}


def check_private_training(plan: "TrainPlan") -> None:
    """Raise ``UsageError`` for settings that break the privacy of a plan, or belong to none."""
    if plan.dp is None:
        for key in ("clip", "noise_multiplier", *BUDGET):
            if getattr(plan, key) is not None:
                raise UsageError(f"{option_of(key)}: needs --dp {EXAMPLE}")
        return
    _check_noise(plan)
    _check_parts(plan)


def _check_noise(plan: "TrainPlan") -> None:
    if plan.noise_multiplier is None and plan.target_epsilon is None:
        raise UsageError(
            f"--dp {plan.dp}: needs --noise-multiplier, or --target-epsilon to choose it",
            hint="with 0, gradients are clipped and get no noise, which gives no privacy",
        )
    if plan.noise_multiplier is not None and plan.target_epsilon is not None:
        raise UsageError("--noise-multiplier and --target-epsilon: give one of them")
    if plan.noise_multiplier != 0 and plan.clip is None:
        raise UsageError(f"--dp {plan.dp}: needs --clip, which the noise is a multiple of")
    if (plan.target_epsilon is None) != (plan.target_rounds is None):
        raise UsageError("--target-epsilon and --target-rounds: give both of them")
    for key in ("target_epsilon", "max_epsilon"):
        if getattr(plan, key) is not None and plan.delta is None:
            raise UsageError(
                f"{option_of(key)}: needs --delta",
                hint="a common choice is below 1 / the number of examples of a client",
            )


def replaced_noise(typed: Given) -> tuple[str, ...]:
    """Return what typed options replace: a noise multiplier the target, or the other way round."""
    if "noise_multiplier" in typed:
        return tuple(key for key in _TARGET if key not in typed)
    return ("noise_multiplier",) if "target_epsilon" in typed else ()


def check_withheld(plan: "TrainPlan", weighting: str) -> None:
    """Raise ``UsageError`` for a weighting that needs what private training withholds."""
    if plan.dp is not None and weighting == "examples":
        raise UsageError(
            f"--weighting examples: --dp {plan.dp} withholds the number of examples",
            hint="--weighting uniform counts clients alike",
        )


def private_plan(plan: "Plan") -> "Plan":
    """Return a plan whose clients count alike if they withhold how many examples they have.

    Raises ``UsageError`` if the plan asks for another weighting, which needs that number.
    """
    from fedcli.plan.rule import resolve

    if plan.train.dp is None:
        return plan
    plan = counted_alike(plan)
    check_withheld(plan.train, resolve(plan.aggregate).weighting)
    return plan


def counted_alike(plan: "Plan") -> "Plan":
    """Return a plan with uniform weighting, if it leaves the choice to a rule by examples."""
    from fedcli.plan.rule import resolve  # rules need numpy, which --help does without

    if plan.aggregate.weighting is None and resolve(plan.aggregate).weighting == "examples":
        return replace(plan, aggregate=replace(plan.aggregate, weighting="uniform"))
    return plan


def _check_parts(plan: "TrainPlan") -> None:
    for key, why in _REFUSED.items():
        if getattr(plan, key):
            raise UsageError(f"{option_of(key)}: {why}, and --dp {plan.dp} needs noise on all")
    if plan.precision == "fp16":
        raise UsageError(
            f"--precision fp16: skips steps that overflow, which tells of the examples that --dp"
            f" {plan.dp} protects",
            hint="--precision bf16 skips none",
        )
    if why := plan.local.exposes_examples:
        raise UsageError(
            f"--algorithm {plan.algorithm}: {why}, which --dp {plan.dp} would not cover",
            hint="--algorithm fedavg, fedprox, fednova, feddyn or scaffold use its gradients alone",
        )
