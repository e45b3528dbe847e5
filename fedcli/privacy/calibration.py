"""Calibration: the least noise that keeps a budget. It inverts the accountant."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from fedcli.errors import UsageError
from fedcli.formats.ledger import Mechanism, PrivacyEvent
from fedcli.privacy.accountant import epsilon_at
from fedcli.privacy.sampled import sensitivity

_PRECISION = 1e-6  # of ε, relative
_WIDTH = 1e-9  # of the interval of log σ, where ε jumps
_MOST_SIGMA = 1e9
_STEP = 0.05  # of log σ, at first
_LARGE = 1e3  # times the target: an ε that says no more than that σ is too small


def calibrate(
    event: PrivacyEvent, epsilon: float, delta: float, spent: Iterable[PrivacyEvent] = ()
) -> float:
    """Return the noise multiplier at which an event, after what was spent, just keeps (ε, δ).

    The ``sigma`` of the event does not matter; its ``count`` says how often the sum will be taken.
    ε at the result is at most the target, and less by 1e-6 of it. Raises ``UsageError`` for a
    target that no noise keeps, and ``MissingDependencyError`` as ``epsilon_at``.
    """
    spent = tuple(spent)
    _check(epsilon, delta, spent)

    def excess(log_sigma: float) -> float:
        each = replace(event, sigma=math.exp(log_sigma))
        return min(epsilon_at([*spent, each], delta) / epsilon, _LARGE) - 1

    return math.exp(_root(excess, math.log(_guess(event, epsilon, delta))))


def _check(epsilon: float, delta: float, spent: tuple[PrivacyEvent, ...]) -> None:
    if not 0 < epsilon < math.inf:
        raise UsageError(f"target epsilon: expected more than 0, found {epsilon}")
    if (already := epsilon_at(spent, delta)) >= epsilon:
        raise UsageError(
            f"target epsilon: expected more than the {already:.4g} already spent, found {epsilon}",
            hint="raise the target, or use other data",
        )


def _guess(event: PrivacyEvent, epsilon: float, delta: float) -> float:
    """Return a σ near the result: by the limit of many samples (Bu et al. 2020)."""
    if event.mechanism != Mechanism.POISSON or event.q == 1:
        return math.sqrt(event.count)
    once = replace(event, mechanism=Mechanism.GAUSSIAN, q=1.0, count=1)
    shift = sensitivity(event.relation) / calibrate(once, epsilon, delta)
    square = math.log1p((shift / event.q) ** 2 / event.count)
    return sensitivity(event.relation) / math.sqrt(square)


def _root(excess: Callable[[float], float], start: float) -> float:
    """Return where a falling function is at most 0, and hardly less.

    The method is false position with the change of the Illinois algorithm, started from an interval
    that grows until it holds the root. Every place is moved a little to the safe side.
    """
    low, above, high, below = _bracket(excess, start)
    side = 0
    while below < -_PRECISION and high - low > _WIDTH:
        place = high - (high - low) * below / (below - above) + _PRECISION / 4
        place = min(place, high - _WIDTH / 4)
        found = excess(place)
        if found > 0:
            low, above, below, side = place, found, below / (2 if side > 0 else 1), 1
        else:
            high, below, above, side = place, found, above / (2 if side < 0 else 1), -1
    return high


def _bracket(excess: Callable[[float], float], start: float) -> tuple[float, float, float, float]:
    """Return log σ and excess where there is too little noise, and where there is enough."""
    step, found = _STEP, excess(start)
    low = high = start
    above = below = found
    while above <= 0:
        high, below = low, above
        low, step = low - step, 2 * step
        above = excess(low)
    while below > 0:
        low, above = high, below
        high, step = high + step, 2 * step
        if high > math.log(_MOST_SIGMA):
            raise UsageError(f"target epsilon: no noise multiplier up to {_MOST_SIGMA:g} keeps it")
        below = excess(high)
    return low, above, high, below
