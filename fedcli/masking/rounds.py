"""The files of a masked round: who masks together, whose updates are in the sum, who answers."""

from typing import Any

from fedcli.errors import BadInputError, NotReadyError, UsageError
from fedcli.formats.checkpoint import digest
from fedcli.formats.masked import (
    MASK,
    SharesFile,
    SurvivorList,
    SurvivorsFile,
    from_base64,
    to_base64,
)
from fedcli.formats.public_key import PREFIX
from fedcli.masking.cohort import Cohort, MaskedRound
from fedcli.masking.keys import MaskingKey
from fedcli.masking.quantise import Grid
from fedcli.masking.shares import SealedShares
from fedcli.masking.vector import said_of
from fedcli.plan.masked_noise import MaskedNoise
from fedcli.plan.secagg import SecaggPlan
from fedcli.run import Run
from fedcli.run.next_command import close_command
from fedcli.run.round import Round
from fedcli.run.sampling import sampled_clients
from fedcli.security.records import check_record

FIRST_ATTEMPT = 1
MOST_UNREAD = 64_000_000  # bytes of a file of shares; of 500 members it has 44 million
MASKED = "masked"  # the tensor of a masked update
LIST_KIND = "survivors"
ANSWER_KIND = "unmask"


def secagg_of(run: Run) -> SecaggPlan:
    """Return how a run masks updates; raise ``UsageError`` if it does not."""
    if run.info.plan.secagg is None:
        raise UsageError(
            "updates of this run are not masked",
            hint="fedcli init --secagg makes a run whose are",
            path=run.root,
        )
    return run.info.plan.secagg


def cohort_of(run: Run, round_: Round, attempt: int = FIRST_ATTEMPT) -> Cohort:
    """Return who masks together in a round: all members, or those drawn for it."""
    secagg, members = secagg_of(run), sampled_clients(run.info, round_.number)
    keys = {member: run.info.masking_keys[member] for member in members}
    where = MaskedRound(run.id, round_.number, attempt)
    return Cohort(keys, secagg.threshold, where)


def grid_of(run: Run, cohort: Cohort) -> Grid:
    """Return the grid of a round's integers."""
    secagg = secagg_of(run)
    return Grid(secagg.clip, secagg.bits, len(cohort.members))


def noise_of(run: Run) -> MaskedNoise | None:
    """Return how members shorten their steps, and what they add; None if they do neither."""
    return MaskedNoise.planned(run.info.plan)


def mask_encoding(run: Run, cohort: Cohort) -> dict[str, Any]:
    """Return what a masked update says of its encoding."""
    attempt, grid, noise = cohort.where.attempt, grid_of(run, cohort), noise_of(run)
    found = {"name": MASK, "attempt": attempt, "clip": grid.clip, "bits": grid.bits}
    found |= said_of(run.info.plan)
    if noise is None:
        return found
    return found | {"norm": noise.clip, "noise": noise.sigma, "parties": noise.parties}


def check_member_key(run: Run, member: str, key: MaskingKey) -> None:
    """Raise ``UsageError`` unless a run names this X25519 key as the member's."""
    if (expected := run.info.masking_keys.get(member)) != key.public:
        raise UsageError(
            f"--key {key.path}: is not the x25519 key of client {member}: expected {expected},"
            f" found {key.public}"
        )


def shares_file(cohort: Cohort, client: str, update: str, sealed: SealedShares) -> SharesFile:
    """Return what is written beside a masked update of this SHA-256."""
    where = cohort.where
    shares = {member: to_base64(data) for member, data in sealed.sealed.items()}
    return SharesFile(
        where.run, where.round, where.attempt, client, update, shares, sealed.commitments
    )


def read_shares(
    cohort: Cohort, round_: Round, client: str, update: str, sha256: str | None = None
) -> SealedShares:
    """Read the shares that belong to a masked update of this SHA-256.

    ``sha256`` is what the file must have. Raises ``NotReadyError`` if it is missing, and
    ``BadInputError`` for another one.
    """
    path = round_.shares(client)
    if sha256 is not None and path.exists() and (found := digest(path, most=MOST_UNREAD)) != sha256:
        raise BadInputError(
            f"was changed: SHA-256 {found}, expected {sha256}",
            hint=f"ask client {client} for it again",
            path=path,
            client=client,
        )
    file = SharesFile.read(path)
    if file is None:
        raise NotReadyError("no such file", path=path, client=client)
    where = cohort.where
    expected = (where.run, where.round, where.attempt, client, update)
    if (file.run, file.round, file.attempt, file.client, file.update) != expected:
        raise BadInputError(
            f"belongs to another update than {round_.update(client)}", path=path, client=client
        )
    if not set(file.shares) == set(file.commitments) == set(cohort.members):
        raise BadInputError(
            f"expected shares for {', '.join(cohort.members)}, found others",
            path=path,
            client=client,
        )
    sealed = {member: from_base64(text) for member, text in file.shares.items()}
    return SealedShares(sealed, file.commitments)


def read_survivors(run: Run, round_: Round) -> SurvivorList:
    """Return the list of survivors that the coordinator signed.

    Raises ``NotReadyError`` without one, and ``BadInputError`` for one that is not signed, of
    another place, of strangers, or of fewer than t.
    """
    cohort = cohort_of(run, round_)
    file = SurvivorsFile.read(round_.survivors)
    if file is None:
        raise NotReadyError(
            "no such file",
            hint=f"the coordinator writes it: {close_command(run)}",
            path=round_.survivors,
        )
    place = {"kind": LIST_KIND, "run": run.id, "round": round_.number, "attempt": FIRST_ATTEMPT}
    try:
        check_record(file, run.info.coordinator or PREFIX, "the coordinator", **place)
        strangers = sorted(file.signed.survivors.keys() - set(cohort.members))
        if strangers:
            raise BadInputError(f"names {strangers[0]}, who is not a member of this round")
        if len(file.signed.survivors) < cohort.threshold:
            raise BadInputError(
                f"names {len(file.signed.survivors)} clients, expected at least"
                f" {cohort.threshold}; the sum of fewer is not shown"
            )
    except BadInputError as error:
        raise BadInputError(
            error.reason,
            hint=f"ask the coordinator before you use anything of {run.root}",
            path=round_.survivors,
        ) from None
    return file.signed
