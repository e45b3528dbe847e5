"""Events as tests need them, and whether the accountant of samples is there."""

from importlib.util import find_spec

import pytest

from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation

ADD_REMOVE, REPLACE = Relation.ADD_REMOVE, Relation.REPLACE

needs_dp_accounting = pytest.mark.skipif(
    find_spec("dp_accounting") is None, reason="dp-accounting is not installed"
)


def gaussian(sigma: float, count: int = 1, relation: Relation = ADD_REMOVE) -> PrivacyEvent:
    """Gaussian noise on a sum over all, with C = D = 1."""
    return PrivacyEvent(Mechanism.GAUSSIAN, sigma, 1.0, 1.0, relation, count=count)


def sampled(
    q: float, sigma: float, count: int = 1, relation: Relation = ADD_REMOVE
) -> PrivacyEvent:
    """Gaussian noise on the sum of a Poisson sample, with C = D = 1."""
    return PrivacyEvent(Mechanism.POISSON, sigma, 1.0, 1.0, relation, q, count)


def discrete(
    sigma: float, grid: float, coordinates: int, count: int = 1, parties: int | None = None
) -> PrivacyEvent:
    """Discrete Gaussian noise on a sum over all, with C = D = 1."""
    return PrivacyEvent(
        *(Mechanism.DISCRETE, sigma, 1.0, 1.0, ADD_REMOVE, 1.0),
        *(count, grid, coordinates, parties),
    )
