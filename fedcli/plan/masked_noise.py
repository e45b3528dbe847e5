"""Noise of masked sums: every member shortens its own step, and adds its part of the noise.

Kairouz et al. 2021, "The distributed discrete Gaussian mechanism". Each member draws the discrete
Gaussian of the variance σ²C²/t, so t survivors, fewer of which open no sum, add σ²C² or more.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from fedcli.errors import UsageError
from fedcli.formats.ledger import Mechanism, PrivacyEvent, Relation

if TYPE_CHECKING:
    from fedcli.plan import Plan
    from fedcli.plan.aggregate import AggregatePlan
    from fedcli.plan.client_level import ClientPrivacy
    from fedcli.plan.secagg import SecaggPlan

MOST_SUM = 2**31  # sums are int32
_MOST_BITS = 30
_REACH = 12.1  # standard deviations: 2³⁶ values are within, but for a probability of 2⁻⁶⁸
_LEAST_STD = 4.0  # of a member's noise, on the grid: draws then add up to one of the whole variance


@dataclass(frozen=True)
class MaskedNoise:
    """How the members of a masked run shorten their steps to C, and what noise they add.

    ``sigma`` is σ, ``parties`` is t, and ``step`` is g, the distance of neighbouring integers.
    """

    clip: float
    sigma: float
    parties: int
    step: float

    @classmethod
    def of(cls, secagg: "SecaggPlan", rule: "AggregatePlan") -> "MaskedNoise | None":
        """Return what a plan asks for; None if members send their steps as they are."""
        if rule.update_noise is None or rule.update_clip is None:
            return None
        step = secagg.clip / 2 ** (secagg.bits - 1)
        return cls(rule.update_clip, rule.update_noise, secagg.threshold, step)

    @classmethod
    def planned(cls, plan: "Plan") -> "MaskedNoise | None":
        """Return the noise of a run with this plan; None without, or if updates are not masked."""
        return None if plan.secagg is None else cls.of(plan.secagg, plan.aggregate)

    @property
    def radius(self) -> float:
        """C in units of the grid."""
        return self.clip / self.step

    @property
    def variance(self) -> Fraction:
        """The variance of a member's noise in units of the grid, σ²C²/tg²."""
        return (Fraction(self.sigma) * Fraction(self.clip) / Fraction(self.step)) ** 2 / (
            self.parties
        )

    def most(self, clients: int) -> float:
        """Return what the noise of so many members stays below, in units of the grid."""
        return _REACH * math.sqrt(clients * self.variance)

    def event(self, how: "ClientPrivacy", coordinates: int) -> PrivacyEvent:
        """Return what an opened sum of so many values spends: t draws are sure to be in it."""
        return PrivacyEvent(
            Mechanism.DISCRETE,
            sigma=self.sigma,
            clip=self.clip,
            divisor=how.update_divisor,
            relation=Relation(how.relation),
            grid=self.step,
            coordinates=coordinates,
            parties=self.parties,
        )

    def before_rounding(self, values: int) -> float:
        """Return the norm, in model units, to which a step of so many values is shortened.

        Rounding moves it by √N/2 on the grid at most, so that it stays within C. Raises
        ``UsageError`` for a grid that leaves less than half of C.
        """
        lost = math.sqrt(values) / 2
        if lost > self.radius / 2:
            raise UsageError(
                f"--secagg-bits: rounding {values} values may lengthen a step by"
                f" {lost * self.step:.3g}, more than half of --update-clip {self.clip:g}",
                hint="more bits, or a lower --secagg-clip, make a finer grid",
            )
        return (self.radius - lost) * self.step


def finest_bits(secagg: "SecaggPlan", rule: "AggregatePlan", members: int) -> int:
    """Return the most bits with which no sum of steps and noise overflows, at least 2."""
    fits = (b for b in range(_MOST_BITS, 2, -1) if _fits(replace(secagg, bits=b), rule, members))
    return next(fits, 2)


def _fits(secagg: "SecaggPlan", rule: "AggregatePlan", members: int) -> bool:
    largest, noise = 2.0 ** (secagg.bits - 1), MaskedNoise.of(secagg, rule)
    if noise is None:
        return members * largest < MOST_SUM
    reach = members * min(largest, noise.radius) + noise.most(members)
    return members * largest < MOST_SUM and reach < MOST_SUM


def check_noise(plan: "Plan", secagg: "SecaggPlan", members: int) -> None:
    """Raise ``UsageError`` if noise makes sums overflow, or if the grid is too coarse for it."""
    noise = MaskedNoise.of(secagg, plan.aggregate)
    if noise is None:
        return
    if not _fits(secagg, plan.aggregate, members):
        raise UsageError(
            f"--secagg-bits {secagg.bits}: the sum of {members} steps and their noise would not"
            f" stay below 2^31; expected at most {finest_bits(secagg, plan.aggregate, members)}"
        )
    if noise.sigma and noise.variance < _LEAST_STD**2:
        raise UsageError(
            f"--update-noise {noise.sigma:g}: a member's part of the noise has a standard deviation"
            f" of {math.sqrt(noise.variance):.3g} steps of the grid, expected {_LEAST_STD:g} or"
            " more",
            hint="more --secagg-bits, or a lower --secagg-clip, make a finer grid",
        )
