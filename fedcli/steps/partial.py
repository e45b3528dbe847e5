"""Add up the updates of some clients into a partial mean, for further aggregation."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.aggregation.admission import open_updates
from fedcli.aggregation.base_model import Base
from fedcli.aggregation.decide import check_suited, claims_of
from fedcli.aggregation.provenance import (
    combined_metadata,
    contributions,
    digest_placeholder,
    partial_contributions,
)
from fedcli.aggregation.request import Request, check_no_private_partials, read_request
from fedcli.aggregation.updates import Update, check_sources
from fedcli.aggregation.weighted_sums import add_up
from fedcli.errors import CheckpointError, ConflictError, NotReadyError, OvertakenError, UsageError
from fedcli.formats.checkpoint import Checkpoint, create, digest
from fedcli.formats.manifest import Contribution, PartialContribution, in_all
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.run.participation import participation
from fedcli.security.signatures import check_no_partials
from fedcli.strategies.claims import Claims
from fedcli.strategies.decision import Shares


@dataclass(frozen=True)
class PartialResult:
    """The result of ``partial``; ``total_weight`` is the divisor of the sums in the file.

    ``clients`` are the updates that were added up, ``partials`` the partial means; both are empty
    if the file existed already.
    """

    path: Path
    sha256: str
    round: int
    weighting: str
    clients: tuple[Contribution, ...]
    partials: tuple[PartialContribution, ...]
    total_weight: float
    seconds: float
    already_done: bool


def partial(
    run: Run,
    members: Sequence[str],
    output: Path,
    *,
    round_number: int | None = None,
    options: Mapping[str, Any] | None = None,
    exclude: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> PartialResult:
    """Write the weighted sum of updates, in float64, with the sum of the weights.

    ``members`` are the ids of clients and files of partial means to add up; by default all existing
    updates of the round. ``aggregate`` makes the whole mean from its parts; it equals the mean of
    all updates up to the rounding of float64 sums.

    Raises ``NotReadyError`` when a named client has not delivered, ``UsageError`` for a rule other
    than a mean with uniform or example weights, ``UpdateError``, ``ConflictError`` when the file
    exists and was made from other inputs, and ``StorageError``.
    """
    started = time.perf_counter()
    check_no_partials(run)
    request = read_request(run, round_number, options, members, exclude)
    check_no_private_partials(request.invitation.plan)
    if not request.rule.adds_up:
        raise UsageError(
            f"--partial: adds up means with examples or uniform weighting, not"
            f" {request.rule.reduce} with {request.rule.weighting} weighting"
        )
    rule, round_ = request.rule, request.invitation.round
    wanted = [(round_.number, client) for client in _taking_part(request)]
    files = [request.partials[name] for name in sorted(request.partials)]
    most = request.invitation.plan.max_examples
    with open_updates(run, round_, wanted, files, rule.weighting, most) as opened:
        recorded = check_suited(opened.base, opened.updates, rule)
        claims = claims_of(run, opened.updates, rule, most)
        shares = rule.weigher.weigh(claims.contributors, None, rule.options)
        sums = Sums(opened.base, opened.updates, rule.weighting, shares, recorded, claims)
        if output.exists() and not force:
            return _unchanged(output, sums)
        try:
            return _write(output, sums, progress or Silence(), started, force=force)
        except OvertakenError:
            return _unchanged(output, sums)


@dataclass(frozen=True)
class Sums:
    """The terms of a sum; ``shares`` are the weights of the updates.

    ``recorded`` holds equal values of their training records, which the rule needs; ``claims``
    is what they claim as far as it counts.
    """

    base: Base
    updates: list[Update]
    weighting: str
    shares: Shares
    recorded: Mapping[str, float]
    claims: Claims

    def metadata(self, digest_of: Callable[[Update], str]) -> Metadata:
        """Return the metadata of the file."""
        made = combined_metadata(Kind.PARTIAL, self.base, self.updates, digest_of)
        members = {c: sha256 for update in self.updates for c, sha256 in update.members.items()}
        first = self.updates[0].training  # all updates withhold the same tensors
        withheld = {"freeze": first.freeze, "local_layers": first.local_layers}
        return replace(
            made,
            num_examples=in_all(one.num_examples for one in self.claims.contributors),
            roles=self.base.roles,
            updates={**(made.updates or {}), **members},
            weighting=self.weighting,
            training=TrainingRecord().plus({**withheld, **self.recorded}),
        )


def _taking_part(request: Request) -> tuple[str, ...]:
    """Return the clients whose updates are added up; nobody if only files are named."""
    invitation = request.invitation
    if request.partials and invitation.named is None:
        invitation = replace(invitation, named=())
    seen = participation(invitation)
    if (invitation.named and seen.missing) or not (seen.accepted or request.partials):
        names = [absence.client for absence in seen.missing]
        number = invitation.round.number
        raise NotReadyError(
            f"round {number}: no update of {', '.join(names[:10]) or 'any client'}",
            hint=train_command(invitation.run, names, number),
        )
    return seen.clients


def _write(
    output: Path, sums: Sums, progress: Progress, started: float, *, force: bool
) -> PartialResult:
    weights, divisor = sums.shares.weights, sums.shares.divisor
    layout, described = sums.base.partial_layout(), sums.metadata(digest_placeholder)
    with create(output, layout, described, replace=force) as writer:
        add_up(sums.base, sums.updates, weights.tolist(), writer, progress)
        direct = [update for update in sums.updates if not update.members]
        check_sources(direct)
        sha256 = writer.finish(sums.metadata(Update.digest))
    return PartialResult(
        path=output,
        sha256=sha256,
        round=sums.base.round.number,
        weighting=sums.weighting,
        clients=contributions(direct, sums.claims, weights / divisor, set(range(len(direct))), ()),
        partials=partial_contributions(sums.updates, weights / divisor),
        total_weight=divisor,
        seconds=round(time.perf_counter() - started, 3),
        already_done=False,
    )


def _unchanged(output: Path, sums: Sums) -> PartialResult:
    expected = sums.metadata(lambda update: digest(update.path))
    try:
        with Checkpoint(output, Kind.PARTIAL) as checkpoint:
            found, sha256 = checkpoint.metadata, checkpoint.digest()
    except CheckpointError as error:
        raise ConflictError(
            f"exists, but is not a partial mean: {error.about(output)}",
            hint="--force replaces it",
            path=output,
        ) from None
    if found.encode() != expected.encode():
        raise ConflictError(
            "exists, and was made from other updates or with another weighting",
            hint="--force replaces it",
            path=output,
        )
    number, total = sums.base.round.number, sums.shares.divisor
    return PartialResult(output, sha256, number, sums.weighting, (), (), total, 0.0, True)
