"""The accountant: what a list of events costs together, as ε at a δ or δ at an ε."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from fedcli.errors import UsageError
from fedcli.formats.ledger import PrivacyEvent, Relation
from fedcli.privacy.discrete import concentrated_delta, concentrated_epsilon, rounding, splitting
from fedcli.privacy.gaussian import gaussian_delta, gaussian_epsilon
from fedcli.privacy.sampled import (
    Counts,
    Sampled,
    amplified,
    loss_distribution,
    root_of_squares,
    sensitivity,
)

_MOST_EXPONENT = 700.0  # of e, as a float
_LEAST_DELTA = 1e-300  # smaller ones lose their digits


@dataclass(frozen=True)
class Budget:
    """(ε, δ) for neighbours by ``relation``; ``epsilon`` is infinite where nothing is protected.

    ``exact`` says that no smaller ε holds; otherwise ε is an upper bound.
    """

    epsilon: float
    delta: float
    relation: Relation
    exact: bool


@dataclass(frozen=True)
class _Composition:
    """Many events as one mechanism.

    ``mu`` is √Σ 1/σ² over sums that are not sampled, ``sampled`` the others, and ``most`` √Σ 1/σ²
    over both, as if nothing were sampled; ``rounded`` and ``split`` are how far discrete noise is
    from Gaussian noise, and draws of parties from one.
    """

    mu: float
    most: float
    sampled: Counts
    rounded: float
    split: float
    relation: Relation
    exact: bool

    def epsilon(self, delta: float) -> float:
        found = _near(self._continuous_epsilon, self.rounded + self.split, delta)
        if self.rounded == 0 or self.sampled:
            return found
        return min(found, _near(self._concentrated_epsilon, self.split, delta))

    def _continuous_epsilon(self, delta: float) -> float:
        unsampled = gaussian_epsilon(self._shift, delta)
        if not self.sampled:
            return unsampled
        distribution = loss_distribution(self.mu, self.sampled, self.relation)
        return min(unsampled, max(0.0, float(distribution.get_epsilon(delta))))

    def _concentrated_epsilon(self, delta: float) -> float:
        return concentrated_epsilon(self._shift, delta)

    def delta(self, epsilon: float) -> float:
        each = 1 + math.exp(min(epsilon, _MOST_EXPONENT))
        found = self._continuous_delta(epsilon) + each * (self.rounded + self.split)
        if self.rounded > 0 and not self.sampled:
            found = min(found, concentrated_delta(self._shift, epsilon) + each * self.split)
        return min(1.0, found)

    def _continuous_delta(self, epsilon: float) -> float:
        unsampled = gaussian_delta(self._shift, epsilon)
        if not self.sampled:
            return unsampled
        distribution = loss_distribution(self.mu, self.sampled, self.relation)
        return min(unsampled, float(distribution.get_delta(epsilon)))

    @property
    def _shift(self) -> float:
        return sensitivity(self.relation) * self.most


def _near(epsilon_of: Callable[[float], float], variation: float, delta: float) -> float:
    """Return ε of a mechanism that is within a total variation t of one whose ε is known.

    Of δ, (1 + e^ε) t is lost; with half of δ left, that ε bounds the result, and so the loss.
    """
    if variation == 0:
        return epsilon_of(delta)
    largest = epsilon_of(delta / 2)
    lost = variation * (1 + math.exp(min(largest, _MOST_EXPONENT)))
    return epsilon_of(delta - lost) if lost <= delta / 2 else math.inf


def _composed(events: Iterable[PrivacyEvent]) -> _Composition:
    """Compose events; with both relations among them, all count as replacements.

    Equal events are counted before anything is summed, so that T events of one sum cost to the last
    digit what one event of T sums costs.
    """
    counts: Counter[PrivacyEvent] = Counter()
    for event in events:
        counts[replace(event, count=1)] += event.count
    sums: Counter[Sampled] = Counter()
    for event, count in counts.items():
        sums[Sampled(event.q, event.sigma)] += count
    relation = _strictest(event.relation for event in counts)
    sampled = amplified(sums, relation)
    mu = root_of_squares({each: sums[each] for each in sums.keys() - sampled.keys()})
    near = (rounding(counts), splitting(counts))
    exact = near[0] == 0 and all(each.q == 1 for each in sums)
    return _Composition(mu, root_of_squares(sums), sampled, *near, relation, exact)


def _strictest(relations: Iterable[Relation]) -> Relation:
    return Relation.REPLACE if Relation.REPLACE in relations else Relation.ADD_REMOVE


def epsilon_at(events: Iterable[PrivacyEvent], delta: float) -> float:
    """Return an upper bound on ε at δ, exact for Gaussian noise without samples.

    Raises ``UsageError`` for a δ outside (0, 1), and ``MissingDependencyError`` for samples without
    ``dp-accounting``.
    """
    return _composed(events).epsilon(_checked(delta))


def delta_at(events: Iterable[PrivacyEvent], epsilon: float) -> float:
    """Return an upper bound on δ at ε, exact for Gaussian noise without samples.

    Raises ``UsageError`` for an ε below 0, and ``MissingDependencyError`` as ``epsilon_at``.
    """
    if not 0 <= epsilon < math.inf:
        raise UsageError(f"epsilon: expected 0 or more, found {epsilon}")
    return _composed(events).delta(epsilon)


def budget(events: Iterable[PrivacyEvent], delta: float) -> Budget:
    """Return what events have spent together. Raises as ``epsilon_at``."""
    found = _composed(events)
    return Budget(found.epsilon(_checked(delta)), delta, found.relation, found.exact)


def affords(
    events: Iterable[PrivacyEvent], more: Iterable[PrivacyEvent], max_epsilon: float, delta: float
) -> bool:
    """Return whether ε at δ is at most ``max_epsilon`` after more events. Raises as ``budget``."""
    if not max_epsilon >= 0:
        raise UsageError(f"max_epsilon: expected 0 or more, found {max_epsilon}")
    return epsilon_at([*events, *more], delta) <= max_epsilon


def _checked(delta: float) -> float:
    if not _LEAST_DELTA < delta < 1:
        raise UsageError(
            f"delta: expected more than 0 and less than 1, found {delta}",
            hint="a common choice is below 1 / the number of examples or clients",
        )
    return delta
