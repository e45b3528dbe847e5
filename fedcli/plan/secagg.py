"""Section ``secagg`` of the plan: secure aggregation, and what it rules out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from fedcli.errors import UsageError
from fedcli.options import check, option
from fedcli.plan.masked_noise import MOST_SUM, check_noise, finest_bits
from fedcli.plan.private_training import counted_alike

if TYPE_CHECKING:
    from fedcli.plan import Plan
    from fedcli.plan.aggregate import AggregatePlan
    from fedcli.strategies import Rule

_USUAL_BITS = 20
FEWEST_MEMBERS = 3  # of two members, each learns the other's update from the sum


def least_threshold(members: int) -> int:
    """Return the least t for which two sets of t honest answers to two lists cannot exist.

    Two sets of t > 2n/3 members share more than n/3 of them, and an honest one answers once.
    """
    return 2 * members // 3 + 1


def check_threshold(members: int, threshold: int) -> None:
    """Raise ``UsageError`` unless a round of so many members is private with this threshold."""
    if members < FEWEST_MEMBERS:
        raise UsageError(
            f"--secagg: expected at least {FEWEST_MEMBERS} clients in a round, found {members}; the"
            " sum of two shows each the update of the other"
        )
    least = least_threshold(members)
    if not least <= threshold <= members:
        raise UsageError(
            f"--threshold: expected {least} … {members} of {members} clients, found {threshold}",
            hint=f"--threshold {least} needs the fewest answers",
        )


@dataclass(frozen=True)
class SecaggPlan:
    """How updates are masked: t, the largest change of a parameter, and the bits of integers.

    ``control_clip`` is the largest change of a control variate; None if there are none.
    """

    threshold: int
    clip: float
    bits: int
    control_clip: float | None = None

    @property
    def options(self) -> dict[str, bool | int | float]:
        """The options of ``init`` that ask for it, by name."""
        found: dict[str, bool | int | float] = {
            "secagg": True,
            "threshold": self.threshold,
            "secagg_clip": self.clip,
            "secagg_bits": self.bits,
        }
        controls = self.control_clip
        return found if controls is None else found | {"secagg_control_clip": controls}


@dataclass(frozen=True)
class SecaggOptions:
    """What ``init`` is told about secure aggregation."""

    secagg: bool = option(
        False, "Mask updates, so that only their sum over the clients can be read.", flag=True
    )
    threshold: int | None = option(
        None,
        "How many members must answer before a sum is opened; more than two thirds of them.",
        "T",
        at_least=1,
        unset="the least allowed",
    )
    secagg_clip: float | None = option(
        None,
        "Largest change of a parameter in a masked update; larger ones are cut off.",
        "B",
        above=0,
        unset="C of `--update-clip`; else must be given with `--secagg`",
    )
    secagg_bits: int | None = option(
        None,
        "Bits of the integers that are added up: the change of a parameter is rounded to a multiple"
        " of B / 2^(bits − 1).",
        "BITS",
        at_least=2,
        at_most=30,
        unset="20, or the most that cannot overflow; the most with `--update-noise`",
    )

    secagg_control_clip: float | None = option(
        None,
        "Largest change of a control variate, which is like a gradient, with `--algorithm"
        " scaffold`.",
        "C",
        above=0,
        unset="must be given with control variates",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range, and for options without ``--secagg``."""
        check(self)
        for name in ("threshold", "secagg_clip", "secagg_bits", "secagg_control_clip"):
            if getattr(self, name) is not None and not self.secagg:
                raise UsageError(f"--{name.replace('_', '-')}: belongs to --secagg")

    def planned(self, members: int, rule: "AggregatePlan") -> SecaggPlan | None:
        """Return the section for rounds of so many members; None without secure aggregation.

        ``rule`` says which noise they add. Raises ``UsageError``.
        """
        if not self.secagg:
            return None
        threshold = least_threshold(members) if self.threshold is None else self.threshold
        check_threshold(members, threshold)
        largest = self.secagg_clip or rule.update_clip
        if largest is None:
            raise UsageError(
                "--secagg-clip: say how much training may change a parameter, such as 0.1; masked"
                " changes are integers of a fixed range"
            )
        bits = self.secagg_bits or min(_USUAL_BITS, ((MOST_SUM - 1) // members).bit_length())
        found = SecaggPlan(threshold, largest, bits, self.secagg_control_clip)
        if self.secagg_bits is None and rule.update_noise:
            return replace(found, bits=finest_bits(found, rule, members))
        return found


def masked_plan(plan: "Plan", secagg: SecaggPlan, members: int) -> "Plan":
    """Return a plan with secure aggregation.

    Raises ``UsageError`` for whatever needs to see single updates, and for noise that does not fit
    the integers of so many members.
    """
    plan = replace(counted_alike(plan), secagg=secagg)
    check_maskable(plan)
    check_noise(plan, secagg, members)
    _check_controls(plan, secagg)
    _check_examples(plan, members)
    return plan


def _is_drawn(encode: str) -> bool:
    """Return whether an encoding sends coordinates that are the same for all, as they are."""
    return encode.startswith("randk=") and not encode.endswith("16")


def _check_controls(plan: "Plan", secagg: SecaggPlan) -> None:
    has = plan.train.local.reads is not None
    if has and secagg.control_clip is None:
        raise UsageError(
            f"--secagg-control-clip: say how much a round may change a control variate of"
            f" {plan.train.algorithm}, such as 1; it is like a gradient"
        )
    if not has and secagg.control_clip is not None:
        raise UsageError(f"--secagg-control-clip: {plan.train.algorithm} sends no control variates")


def _check_examples(plan: "Plan", members: int) -> None:
    """Raise ``UsageError`` unless the examples of so many clients can be masked and added up."""
    if plan.aggregate.weighting != "examples":
        return
    most = (MOST_SUM - 1) // members
    if not 1 <= (plan.aggregate.max_examples or 0) <= most:
        found = plan.aggregate.max_examples
        raise UsageError(
            f"--max-examples: expected 1 … {most} with --weighting examples, found"
            f" {'none' if found is None else found}; masked numbers of examples need a bound",
            hint="about as many as the largest client has: one of more counts as that many, and"
            " the steps of much smaller ones are rounded more coarsely",
        )


def check_maskable(plan: "Plan") -> None:
    """Raise ``UsageError`` for a plan that needs to see single updates."""
    from fedcli.plan.rule import resolve

    rule = resolve(plan.aggregate)
    for option_, why in chain(
        _against_combining(plan, rule), _against_sending(plan), _against_halves(plan, rule)
    ):
        raise UsageError(f"{option_}: is impossible with --secagg: {why}")


def _against_combining(plan: "Plan", rule: "Rule") -> Iterator[tuple[str, str]]:
    """Yield the options that make the server look at single updates, and why each does."""
    if rule.reduce != "mean":
        yield "--reduce", f"{rule.reduce} compares single updates"
    if rule.weighting not in ("uniform", "examples"):
        depends = "weighting depends on what single updates say; uniform and examples do not"
        yield "--weighting", f"{rule.weighting} {depends}"
    if rule.weighting == "examples" and plan.train.dp is not None:
        withholds = "withholds numbers of examples, whose sum would have no noise"
        yield "--weighting", f"--dp {plan.train.dp} {withholds}"
    if rule.weighting == "examples" and plan.aggregate.update_noise is not None:
        yield "--weighting", "noise protects clients that count alike"
    if plan.aggregate.adaptive_clip is not None:
        yield "--adaptive-clip", "members shorten their own steps, to one norm for all rounds"
    if plan.aggregate.max_norm is not None:
        yield "--max-norm", "needs the norms of single updates"


def _against_sending(plan: "Plan") -> Iterator[tuple[str, str]]:
    """Yield the options by which clients would send what masks do not hide, and why."""
    train = plan.train
    if train.encode is not None and not _is_drawn(train.encode):
        other = "integers that are added up have no other encoding; randk=F sends fewer of them"
        yield "--encode", other
    if train.encode is not None and plan.aggregate.update_noise is not None:
        yield "--encode", "noise needs the norm of all coordinates"
    if train.feedback:
        yield "--feedback", "what rounding and masks lose is not kept"
    if train.initial_loss:
        yield "--initial-loss", "publishes the loss on each client's data"


def _against_halves(plan: "Plan", rule: "Rule") -> Iterator[tuple[str, str]]:
    """Yield the halves of an algorithm that go beyond the sum of the updates, and why."""
    if rule.optimizer.records:
        yield "--server-optimizer", f"{rule.server_optimizer} needs what single updates record"
    if plan.train.local.reads is not None and plan.aggregate.update_noise is not None:
        sends = "sends control variates, which get no noise"
        yield "--algorithm", f"{plan.train.algorithm} {sends}"
