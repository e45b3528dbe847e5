"""Learning rate schedules over rounds; the rate is constant within a round."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fedcli.errors import UsageError
from fedcli.options import Given, option_of


@dataclass(frozen=True)
class Schedule:
    """A row of ``SCHEDULES``.

    ``factor`` takes the rounds since the warm-up and the options of the plan; ``needs`` lists the
    options that it uses.
    """

    summary: str
    factor: Callable[[int, Given], float]
    needs: tuple[str, ...] = ()
    source: str = ""


def _cosine(done: int, given: Given) -> float:
    """Return (1 + cos(π t / T)) / 2, which stays above 0."""
    rounds = given["lr_rounds"] - given["lr_warmup"]
    return (1 + math.cos(math.pi * min(done, rounds - 1) / rounds)) / 2


def _step(done: int, given: Given) -> float:
    return float(given["lr_decay"] ** (done // given["lr_every"]))


def _exponential(done: int, given: Given) -> float:
    return float(given["lr_decay"] ** done)


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("the same rate in every round", lambda done, given: 1.0),
    "cosine": Schedule(
        "falls along half a cosine", _cosine, ("lr_rounds",), "Loshchilov & Hutter 2017, equation 5"
    ),
    "step": Schedule("lower by a factor after every few rounds", _step, ("lr_decay", "lr_every")),
    "exponential": Schedule("lower by a factor after every round", _exponential, ("lr_decay",)),
}


def check_schedule(name: str, given: Given) -> None:
    """Raise ``UsageError`` for a schedule with missing or unused options."""
    for option in ("lr_rounds", "lr_every", "lr_decay"):
        if (given[option] is not None) != (option in SCHEDULES[name].needs):
            problem = "needs it" if option in SCHEDULES[name].needs else "does not use it"
            raise UsageError(f"{option_of(option)}: the schedule {name} {problem}")
    rounds, warmup = given["lr_rounds"], given["lr_warmup"]
    if rounds is not None and rounds <= warmup:
        raise UsageError(
            f"--lr-rounds: expected more than the {warmup} of --lr-warmup, found {rounds}"
        )


def learning_rate(name: str, lr: float, given: Given, round_number: int) -> float:
    """Return the learning rate of a round, counted from 1, where ``lr`` is the full rate.

    A warm-up of W rounds raises the rate in W equal steps; the schedule starts after it. Raises
    ``UsageError`` for a rate that is too small for a float.
    """
    warmup: int = given["lr_warmup"]
    if round_number <= warmup:
        rate = lr * (round_number / warmup)
    else:
        rate = lr * SCHEDULES[name].factor(round_number - 1 - warmup, given)
    if rate == 0:
        options = ", ".join(map(option_of, ("lr", *SCHEDULES[name].needs)))
        raise UsageError(f"{options}: the learning rate of round {round_number} is 0")
    return rate
