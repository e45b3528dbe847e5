"""What an attack on privacy proves: lower bounds of ε, from how often its guesses are right."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

SURE = 0.999  # of each bound
Scores = NDArray[np.float64]


def proved_by_two_worlds(there: Scores, absent: Scores, delta: float) -> float:
    """The ε that scores of trainings with and without a canary prove (float64, (N,) each).

    The threshold is chosen on one half of the trainings and judged on the other, by bounds of both
    rates.
    """
    half = len(there) // 2
    best = max(
        np.quantile(absent[:half], np.linspace(0.5, 0.999, 60)),
        key=lambda bound: _by_rates(there[:half], absent[:half], float(bound), delta),
    )
    return _by_rates(there[half:], absent[half:], float(best), delta)


def _by_rates(there: Scores, absent: Scores, bound: float, delta: float) -> float:
    hits, alarms, count = int((there > bound).sum()), int((absent > bound).sum()), len(there)
    least, most = _interval(hits, count)[0], _interval(alarms, count)[1]
    return math.log((least - delta) / most) if least > delta else 0.0


def _interval(hits: int, count: int) -> tuple[float, float]:
    """The exact interval of a rate (Clopper & Pearson 1934)."""
    least = stats.beta.ppf(1 - SURE, hits, count - hits + 1) if hits else 0.0
    most = stats.beta.ppf(SURE, hits + 1, count - hits) if hits < count else 1.0
    return float(least), float(most)


def right_guesses(scores: Scores, members: NDArray[np.bool_], guesses: int) -> int:
    """How many of the highest scores are members', and of the lowest ones others': half each."""
    order = np.argsort(scores)
    low, high = order[: guesses // 2], order[-(guesses // 2) :]
    return int(members[high].sum() + (~members[low]).sum())


def proved_by_one_run(right: int, guesses: int, canaries: int, delta: float) -> float:
    """The ε that right guesses of one training prove, each canary being in it by a fair coin.

    Steinke, Nasr & Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2. With
    half of the guesses right it is 0.
    """
    low, high = 0.0, 20.0
    if _chance(right, guesses, canaries, low, delta) > 1 - SURE:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if _chance(right, guesses, canaries, middle, delta) > 1 - SURE:
            high = middle
        else:
            low = middle
    return low


def _chance(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """The largest chance of so many right guesses under (ε, δ)-privacy."""
    binomial = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    below = np.cumsum(binomial.pmf(np.arange(right - 1, -1, -1)))  # P(right - i ≤ W < right)
    steepest = float(np.max(below / np.arange(1, right + 1), initial=0.0))
    return min(1.0, float(binomial.sf(right - 1)) + 2 * canaries * delta * steepest)
