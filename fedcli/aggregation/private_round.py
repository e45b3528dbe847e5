"""One round that protects its clients: how steps are clipped, the noise, and what both spend."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from fedcli.aggregation.base_model import Base
from fedcli.aggregation.gram import squared_norms
from fedcli.aggregation.noisy_sum import mean_of_sum, spent_by_sum
from fedcli.aggregation.round_privacy import RoundPrivacy
from fedcli.aggregation.updates import Update
from fedcli.formats.dtypes import Values
from fedcli.formats.ledger import LedgerEntry, Mechanism, PrivacyEvent, Relation
from fedcli.formats.metadata import AdaptiveClip
from fedcli.masking.maskable import check_only_parameters
from fedcli.plan.client_level import ClientPrivacy
from fedcli.privacy.clipping import clip_factors, grid_of, next_clip, sum_noise
from fedcli.progress import Progress
from fedcli.run.ledgers import check_sums
from fedcli.security.discrete_gaussian import DiscreteGaussian
from fedcli.security.secret_streams import SecretStreams
from fedcli.storage.atomic import canonical_json
from fedcli.strategies.decision import ClippedDecision, Decision, GridNoise, LinearDecision, Shares

_ATTEMPT = 1
_HALF = 0.5  # a client moves the number of shorter steps, less half of all, by this


@dataclass(frozen=True)
class PrivateDecision:
    """The decision of a round that protects its clients, and what comes with it.

    ``spent`` is empty if steps are not even clipped. ``clip`` is the adaptive norm of the next
    round. ``remark`` says if noise drowns the sum.
    """

    decision: Decision
    spent: tuple[LedgerEntry, ...] = ()
    clip: AdaptiveClip | None = None
    remark: str | None = None


def decide_privately(
    privacy: RoundPrivacy,
    base: Base,
    updates: Sequence[Update],
    options: Mapping[str, Any],
    progress: Progress,
) -> PrivateDecision:
    """Decide how the steps of clients are clipped, and which noise their sum gets.

    Reads and hashes all updates, unless steps may have any norm. ``options`` are those of the
    round. Raises ``UsageError`` for updates that hold anything but parameters, and without a key,
    ``BudgetError`` for a round that would pass the limit, and what ``check_sums`` does.
    """
    check_only_parameters("--update-noise", base.roles)
    if privacy.masked:
        return _of_sum(privacy, base, updates)
    clip = _clip_now(privacy.how, base)
    if clip is None:
        return PrivateDecision(
            LinearDecision(Shares(np.ones(len(updates)), privacy.how.update_divisor))
        )
    norms = np.sqrt(squared_norms(base, updates, progress, strict=False))
    _report(updates, norms, progress)
    round_ = _Round(base, privacy.how, clip, norms)
    inputs = round_.digest(updates, options)
    found = round_.decided(inputs, privacy.streams(base.run, base.round.number, inputs))
    check_sums(base.run, found.spent, privacy.limit)
    return found


def _of_sum(privacy: RoundPrivacy, base: Base, updates: Sequence[Update]) -> PrivateDecision:
    spent = spent_by_sum(privacy, base, updates)
    check_sums(base.run, spent, privacy.limit)
    divisor = privacy.how.update_divisor
    remark = None
    if privacy.noise is not None:
        (entry,), clients = spent, sum(update.contributor.clients for update in updates)
        sigma = privacy.noise.sigma * math.sqrt(clients / privacy.noise.parties)
        remark = _remark(sigma, entry.event.coordinates or 0, divisor)
    return PrivateDecision(mean_of_sum(divisor, updates), spent, remark=remark)


def _clip_now(how: ClientPrivacy, base: Base) -> float | None:
    """Return the norm of this round: what the last one left, if it started from the same."""
    left = base.metadata.clip
    if how.adaptive_clip is None or left is None or left.first != how.update_clip:
        return how.update_clip
    return left.next


def _report(updates: Sequence[Update], norms: Values, progress: Progress) -> None:
    """Tell the coordinator, and no file, whose step counts as 0."""
    for update, norm in zip(updates, norms.tolist(), strict=True):
        if math.isinf(norm):
            progress.say(f"client {update.name}: its step is NaN or infinite, and counts as 0")


@dataclass(frozen=True)
class _Round:
    """What is known once the steps are measured; ``norms`` are |Δ_i| (n,), ∞ if not finite."""

    base: Base
    how: ClientPrivacy
    clip: float
    norms: Values

    @property
    def coordinates(self) -> int:
        return sum(math.prod(self.base.layout[name].shape) for name in self.base.parameters())

    @property
    def factors(self) -> Values:
        return clip_factors(self.norms, self.clip, self.coordinates)

    def digest(self, updates: Sequence[Update], options: Mapping[str, Any]) -> str:
        """Return the SHA-256 of all inputs and options, which the noise is keyed with.

        The factors are in it to the last bit: on two machines whose norms differ in it, one noise
        would be added to two sums.
        """
        values = {
            "base": self.base.sha256,
            "updates": [[one.name, one.base.round.number, one.digest()] for one in updates],
            "factors": self.factors.astype("<f8").tobytes().hex(),
            "clip": self.clip,
            "options": options,
        }
        return hashlib.sha256(canonical_json(values)).hexdigest()

    def decided(self, inputs: str, streams: SecretStreams | None) -> PrivateDecision:
        """Return the decision; without ``streams``, there is no noise."""
        how, factors = self.how, self.factors
        events = [self._event(self._sum_noise, self.clip, self.coordinates)]
        noise, clip = _noise(events[0], streams, "sum"), None
        if how.adaptive_clip is not None:
            events.append(self._event(2 * (how.count_noise or 0.0), _HALF, 1))
            clip = self._next_clip(_noise(events[1], streams, "count"))
        place = self.base.run.id, self.base.round.number, _ATTEMPT
        spent = tuple(LedgerEntry(*place, inputs, event) for event in events)
        return PrivateDecision(
            ClippedDecision(factors, how.update_divisor, noise), spent, clip, self._remark
        )

    @property
    def _sum_noise(self) -> float:
        if self.how.adaptive_clip is None:
            return self.how.update_noise
        return sum_noise(self.how.update_noise, self.how.count_noise or 0.0)

    @property
    def _remark(self) -> str | None:
        return _remark(self._sum_noise, self.coordinates, self.how.update_divisor)

    def _event(self, sigma: float, clip: float, coordinates: int) -> PrivacyEvent:
        discrete = sigma > 0
        return PrivacyEvent(
            Mechanism.DISCRETE if discrete else Mechanism.GAUSSIAN,
            sigma=sigma,
            clip=clip,
            divisor=self.how.update_divisor,
            relation=Relation(self.how.relation),
            grid=grid_of(sigma, clip) if discrete else None,
            coordinates=coordinates if discrete else None,
        )

    def _next_clip(self, noise: GridNoise | None) -> AdaptiveClip:
        """Move C by the noisy share of shorter steps: Andrew et al. 2021, algorithm 1.

        Σ (b_i − ½) is what gets noise; a client that is missing counts as half a shorter step.
        """
        how, shorter = self.how, int(np.count_nonzero(self.norms <= self.clip))
        excess = shorter - len(self.norms) / 2
        if noise is not None:
            excess = noise.grid * (int(excess / noise.grid) + int(noise.draw(0, 1)[0]))
        share = _HALF + excess / how.update_divisor
        target, rate = how.adaptive_clip or 0.0, how.clip_lr or 0.0
        first = how.update_clip or 0.0
        return AdaptiveClip(first, next_clip(self.clip, share, target, rate))


def _remark(sigma: float, coordinates: int, divisor: float) -> str | None:
    """Say if noise drowns what clients learn: its norm is σC√N/D, that of their mean C."""
    length = sigma * math.sqrt(coordinates)
    if length <= divisor:
        return None
    return (
        f"noise drowns what clients learn: σ√N = {length:.4g} is above D = {divisor:g}; train"
        " fewer parameters (--freeze, --lora), take hundreds of clients, or let each protect its"
        " examples (--dp example)"
    )


def _noise(event: PrivacyEvent, streams: SecretStreams | None, purpose: str) -> GridNoise | None:
    """Return the noise of a sum; None without ``streams``."""
    if streams is None or event.grid is None or event.clip is None:
        return None
    std = Fraction(event.sigma) * Fraction(event.clip) / Fraction(event.grid)
    source = DiscreteGaussian(std * std)
    return GridNoise(event.grid, lambda start, stop: source.draw(streams, purpose, start, stop))
