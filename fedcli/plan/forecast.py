"""What a plan will spend of the privacy of examples and of clients, before a run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fedcli.errors import UsageError
from fedcli.formats.ledger import PrivacyEvent
from fedcli.options import check, option
from fedcli.plan import Plan
from fedcli.plan.private_events import public_round_event, rounded_up, sum_event, with_noise
from fedcli.privacy import calibrate, epsilon_at

USUAL_SIZES = (100, 1000, 10000)
_USUAL_ROUNDS = (1, 10, 100)
_USUAL_DELTA = 1e-5


@dataclass(frozen=True)
class ForecastOptions:
    """Which clients, and which rounds, a forecast is about."""

    examples: tuple[int, ...] = option(
        (),
        "Numbers of examples of a client, such as `100,1000`.",
        "N",
        at_least=1,
        unset="those of the run, else `100,1000,10000`",
    )
    rounds: tuple[int, ...] = option(
        (),
        "Numbers of rounds, such as `1,10`.",
        "T",
        at_least=1,
        unset="1, and that of a target; else `1,10,100`",
    )

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for values out of range."""
        check(self)


@dataclass(frozen=True)
class ForecastRow:
    """What a client's examples, or the clients (``examples`` is None), spend at a noise.

    ``q`` is the rate, or the public bound of it, ``sums`` how many noisy sums a round takes.
    ``epsilon`` is that after each number of rounds; None where it has no bound.
    """

    examples: int | None
    q: float
    sums: int
    sigma: float
    epsilon: tuple[float | None, ...]


@dataclass(frozen=True)
class PrivacyForecast:
    """What a plan will spend: ε at δ after some numbers of rounds.

    ``target`` is the ε that the noise was chosen for, None if it was given.
    """

    delta: float
    rounds: tuple[int, ...]
    target: float | None
    rows: tuple[ForecastRow, ...]


def forecast(
    plan: Plan, examples: Sequence[int], rounds: Sequence[int], delta: float | None = None
) -> PrivacyForecast:
    """Return what clients of so many examples, and the clients of a run, will spend.

    A target of a plan chooses the noise of both. ``delta`` is by default that of the plan. Raises
    ``UsageError`` for a plan without noise, and ``MissingDependencyError`` for samples without
    ``dp-accounting``.
    """
    train = plan.train
    if delta is None:
        delta = train.delta or plan.aggregate.update_delta or _USUAL_DELTA
    usual = _USUAL_ROUNDS if train.target_rounds is None else (1, train.target_rounds)
    asked = tuple(dict.fromkeys(sorted(rounds or usual)))
    events = [*_of_examples(plan, examples), *_of_clients(plan)]
    if not events:
        raise UsageError(
            "--privacy: this plan adds no noise",
            hint="give --noise-multiplier, or --target-epsilon, --target-rounds and --delta, for"
            " examples; --update-noise for clients",
        )
    rows = tuple(_row(size, event, asked, delta) for size, event in events)
    return PrivacyForecast(delta, asked, train.target_epsilon, rows)


def _of_examples(plan: Plan, examples: Iterable[int]) -> Iterable[tuple[int, PrivacyEvent]]:
    if plan.train.dp is None:
        return
    for size in dict.fromkeys(sorted(examples)):
        yield size, public_round_event(with_noise(plan.train, size), size)


def _of_clients(plan: Plan) -> Iterable[tuple[None, PrivacyEvent]]:
    event, train = sum_event(plan.aggregate), plan.train
    if plan.aggregate.update_noise is not None:
        yield None, event
    elif train.target_epsilon is not None and train.delta is not None:
        rounds = replace(event, count=train.target_rounds or 1)
        sigma = rounded_up(calibrate(rounds, train.target_epsilon, train.delta))
        yield None, replace(event, sigma=sigma)


def _row(size: int | None, event: PrivacyEvent, rounds: Sequence[int], delta: float) -> ForecastRow:
    found = (epsilon_at([replace(event, count=event.count * n)], delta) for n in rounds)
    epsilon = tuple(one if math.isfinite(one) else None for one in found)
    return ForecastRow(size, event.q, event.count, event.sigma, epsilon)
