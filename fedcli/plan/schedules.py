"""Learning rates over rounds; within a round the rate is constant."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcli.errors import UsageError

if TYPE_CHECKING:
    from fedcli.plan import TrainPlan


@dataclass(frozen=True)
class Schedule:
    """A row of ``SCHEDULES``.

    ``factor`` is given the rounds since the warm-up and the plan; ``needs`` are the keys of the
    plan that it reads.
    """

    summary: str
    factor: Callable[[int, Any], float]
    needs: tuple[str, ...] = ()
    source: str = ""


def _cosine(done: int, plan: Any) -> float:
    """(1 + cos(π t / T)) / 2, never down to 0."""
    rounds = plan.lr_rounds - (plan.lr_warmup or 0)
    return (1 + math.cos(math.pi * min(done, rounds - 1) / rounds)) / 2


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("the same rate in every round", lambda done, plan: 1.0),
    "cosine": Schedule(
        "falls along half a cosine",
        _cosine,
        ("lr_rounds",),
        "Loshchilov & Hutter 2017, equation 5",
    ),
    "step": Schedule(
        "lower by a factor after every few rounds",
        lambda done, plan: plan.lr_decay ** (done // plan.lr_every),
        ("lr_decay", "lr_every"),
    ),
    "exponential": Schedule(
        "lower by a factor after every round",
        lambda done, plan: plan.lr_decay**done,
        ("lr_decay",),
    ),
}
OPTIONS = ("lr_rounds", "lr_every", "lr_decay")
KEYS = ("lr_schedule", "lr_warmup", *OPTIONS)


def check_schedule(plan: "TrainPlan") -> None:
    """Refuse (``UsageError``) a schedule that misses an option, or has one too many."""
    schedule = SCHEDULES[plan.lr_schedule]
    for name in OPTIONS:
        if (getattr(plan, name) is not None) != (name in schedule.needs):
            problem = "needs it" if name in schedule.needs else "does not use it"
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: the schedule {plan.lr_schedule} {problem}")
    warmup = plan.lr_warmup or 0
    if plan.lr_rounds is not None and plan.lr_rounds <= warmup:
        raise UsageError(
            f"--lr-rounds: expected more than the {warmup} of --lr-warmup, found {plan.lr_rounds}"
        )


def learning_rate(plan: "TrainPlan", round_number: int) -> float:
    """Return the learning rate of a round, counted from 1.

    A warm-up of W rounds takes the rate up in W equal steps; the schedule starts after it. Raises
    ``UsageError`` for a rate that is too small for a float.
    """
    warmup = plan.lr_warmup or 0
    if round_number <= warmup:
        rate = plan.lr * (round_number / warmup)
    else:
        rate = plan.lr * SCHEDULES[plan.lr_schedule].factor(round_number - 1 - warmup, plan)
    if rate == 0:
        needs = ("lr", *SCHEDULES[plan.lr_schedule].needs)
        options = ", ".join(f"--{name.replace('_', '-')}" for name in needs)
        raise UsageError(f"{options}: the learning rate of round {round_number} is 0")
    return rate
