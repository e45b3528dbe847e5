"""Add up the updates of some clients into a partial mean, which others add up further."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedcli.aggregation.admission import open_updates
from fedcli.aggregation.base_model import Base
from fedcli.aggregation.decide import check_suited
from fedcli.aggregation.provenance import (
    combined_metadata,
    contributions,
    digest_placeholder,
    partial_contributions,
)
from fedcli.aggregation.request import Request, read_request
from fedcli.aggregation.updates import Update, check_sources
from fedcli.aggregation.weighted_sums import add_up
from fedcli.errors import (
    CheckpointError,
    ConflictError,
    NotReadyError,
    OvertakenError,
    UsageError,
)
from fedcli.formats.checkpoint import Checkpoint, create, digest
from fedcli.formats.manifest import Contribution, PartialContribution
from fedcli.formats.metadata import Kind, Metadata
from fedcli.formats.training_record import TrainingRecord
from fedcli.progress import Progress, Silence
from fedcli.run import Run
from fedcli.run.next_command import train_command
from fedcli.run.participation import participation
from fedcli.security.signatures import check_no_partials
from fedcli.strategies.decision import Shares


@dataclass(frozen=True)
class PartialResult:
    """What ``partial`` did. ``total_weight`` is what the sums in the file are to be divided by.

    ``clients`` are the updates that were added up, ``partials`` the partial means among them;
    both are empty when the file was there already.
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
    """Write the sum of weighted updates, in float64, with the sum of the weights.

    ``members`` are ids of clients and files of partial means, and nobody else counts; by default
    all updates of the round that are there. The mean of the whole is what ``aggregate`` makes of
    its parts; it equals the mean of all updates at once but for the rounding of sums in float64.

    Raises ``NotReadyError`` when a client that was named has not delivered, ``UsageError`` for a
    rule that is no mean weighted by examples or uniform, ``UpdateError``, ``ConflictError`` when
    the file is there and was made from other inputs, and ``StorageError``.
    """
    started = time.perf_counter()
    check_no_partials(run)
    request = read_request(run, round_number, options, members, exclude)
    if not request.rule.adds_up:
        raise UsageError(
            f"--partial: adds up a mean weighted by examples or uniform, not {request.rule.reduce}"
            f" with weighting {request.rule.weighting}"
        )
    rule, round_ = request.rule, request.invitation.round
    wanted = [(round_.number, client) for client in _taking_part(request)]
    files = [request.partials[name] for name in sorted(request.partials)]
    most = request.invitation.plan.max_examples
    with open_updates(run, round_, wanted, files, rule.weighting, most) as opened:
        recorded = check_suited(opened.base, opened.updates, rule)
        contributors = [update.contributor for update in opened.updates]
        shares = rule.weigher.weigh(contributors, None, rule.options)
        sums = Sums(opened.base, opened.updates, rule.weighting, shares, recorded)
        if output.exists() and not force:
            return _unchanged(output, sums)
        try:
            return _write(output, sums, progress or Silence(), started, force=force)
        except OvertakenError:
            return _unchanged(output, sums)


@dataclass(frozen=True)
class Sums:
    """What is added up; ``shares`` are the weights of the updates.

    ``recorded`` is what all of them recorded alike of their training, for the rule to look at.
    """

    base: Base
    updates: list[Update]
    weighting: str
    shares: Shares
    recorded: Mapping[str, float]

    def metadata(self, digest_of: Callable[[Update], str]) -> Metadata:
        """Describe the file."""
        made = combined_metadata(Kind.PARTIAL, self.base, self.updates, digest_of)
        members = {c: sha256 for update in self.updates for c, sha256 in update.members.items()}
        first = self.updates[0].training  # all of them withhold the same tensors
        withheld = {"freeze": first.freeze, "local_layers": first.local_layers}
        return replace(
            made,
            roles=self.base.roles,
            updates={**(made.updates or {}), **members},
            weighting=self.weighting,
            training=TrainingRecord().plus({**withheld, **self.recorded}),
        )


def _taking_part(request: Request) -> tuple[str, ...]:
    """Return whose updates are added up; of files alone, nobody's."""
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
        clients=contributions(direct, weights / divisor, set(range(len(direct))), ()),
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
            f"exists, and is no partial mean: {error.about(output)}",
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
